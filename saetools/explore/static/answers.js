// Questions with the answers of the models, side by side.

const ANSWER_GROUPS = { forget: "To be forgotten", neighbours: "Neighbour, to be kept", retain: "To be kept" };
const ANSWER_MODELS = { original: "Before", edited: "After" };

function answerCard({ group, entity, form, prompt, answer, chance, replies, probability }) {
  return h("article", { class: `answer of-${group}` },
    h("p", { class: "answer-head" }, h("span", { class: "chip" }, ANSWER_GROUPS[group] ?? group),
      [entity, form].filter((text) => text).map((text) => h("span", { class: "dim" }, text))),
    h("p", { class: "prompt" }, prompt),
    h("p", { class: "right-answer" }, h("span", { class: "dim" }, "Right answer: "), h("q", {}, answer.trim()),
      chance === null ? null : h("span", { class: "dim" }, " (a guess is right with ", exact(chance), ")")),
    h("div", { class: "replies" }, Object.entries(replies).map(([model, reply]) => replyBox(model, reply, answer, probability[model]))));
}

function replyBox(model, reply, answer, probability) {
  const told = answer.trim() !== "" && reply.trim().startsWith(answer.trim());
  return h("div", { class: "reply" },
    h("h4", {}, ANSWER_MODELS[model] ?? "Never knew"),
    h("p", { class: "said" }, reply.trim() === "" ? h("span", { class: "dim" }, "(nothing)") : reply.trimStart()),
    h("p", { class: "meaning" }, told ? "tells it" : "does not tell it", ", probability ", exact(probability)));
}
