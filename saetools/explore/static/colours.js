// Colours of groups of latents: the ten largest clusters have a hue each, levels a ramp.

const HUES = {
  light: ["#0a6b70", "#c2570c", "#5b4bb5", "#b0215f", "#2563a8", "#5a8a0c", "#9a6a00", "#8d3fb0", "#c0392b", "#3f7d58"],
  dark: ["#62c6c6", "#f0995a", "#a99cf5", "#f27ab0", "#74aef0", "#a3cf5f", "#dcb35a", "#cf8df0", "#f28b82", "#7cc9a0"],
};
const OTHER = { light: "#a3abb3", dark: "#59636d" };
const RAMP = {
  light: ["#083f66", "#0a6b70", "#3f9a5f", "#9bb52e", "#e0a411", "#e0662a"],
  dark: ["#7aa7ff", "#5fc7d6", "#6fd49b", "#c3dd62", "#ffc65c", "#ff9264"],
};

function clusterColour(cluster, dark) {
  const theme = dark ? "dark" : "light";
  return cluster === null || cluster >= HUES[theme].length ? OTHER[theme] : HUES[theme][cluster];
}

function levelColour(level, nLevels, dark) {
  const ramp = RAMP[dark ? "dark" : "light"];
  return ramp[nLevels < 2 ? 1 : Math.round((level / (nLevels - 1)) * (ramp.length - 1))];
}
