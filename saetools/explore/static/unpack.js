// Unpacking the data: a gzipped JSON head, and typed arrays laid end to end in a gzipped body.

const ARRAY_TYPES = {
  f4: Float32Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array, i1: Int8Array,
};

async function unzipped(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function unpack(headBytes, bodyBytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser cannot unpack the page's data. Please open the file with a "
      + "browser from 2023 or later (Chrome 80, Firefox 113, Safari 16.4).");
  }
  const [head, body] = await Promise.all([unzipped(headBytes), unzipped(bodyBytes)]);
  const data = JSON.parse(new TextDecoder().decode(head));
  let offset = 0;
  for (const { name, dtype, length } of data.arrays) {
    const ArrayType = ARRAY_TYPES[dtype];
    data[name] = new ArrayType(body, offset, length);
    offset += length * ArrayType.BYTES_PER_ELEMENT;
  }
  return data;
}
