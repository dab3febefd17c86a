// Unpacking the data: a gzipped JSON head, and typed arrays laid end to end in a gzipped body.

const ARRAY_TYPES = {
  f4: Float32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array, i1: Int8Array,
};

function bytesOf(id) {
  const text = byId(id).textContent;
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text.trim());
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function unzipped(id) {
  const stream = new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  byId(id).remove();
  return buffer;
}

async function unpack() {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser cannot unpack the page's data. Please open the file with a "
      + "browser from 2023 or later (Chrome 80, Firefox 113, Safari 16.4).");
  }
  const [head, body] = await Promise.all([unzipped("head-data"), unzipped("body-data")]);
  const data = JSON.parse(new TextDecoder().decode(head));
  let offset = 0;
  for (const { name, dtype, length } of data.arrays) {
    const ArrayType = ARRAY_TYPES[dtype];
    data[name] = new ArrayType(body, offset, length);
    offset += length * ArrayType.BYTES_PER_ELEMENT;
  }
  return data;
}
