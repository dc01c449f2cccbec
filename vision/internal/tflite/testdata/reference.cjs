// Makes reference.json: what TensorFlow Lite itself, as WebAssembly, says of one picture that the test draws too.
//
//	node reference.cjs <folder of @tensorflow/tfjs-tflite 0.0.1-alpha.10>/wasm <folder of the .tflite files> > reference.json
const fs = require('node:fs');
const path = require('node:path');

const [wasm, assets] = process.argv.slice(2);
// Of the outputs in the order they are stored in, every so many-th number is kept.
const networks = {'MobileFaceNet.tflite': 1, 'pnet.tflite': 9973, 'rnet.tflite': 1, 'onet.tflite': 1};

const list = (vector) => Array.from({length: vector.size()}, (_, i) => vector.get(i));

// Of MTCNN's networks, x is the stored picture's second dimension, of MobileFaceNet its third.
function draw(data, first, second, transposed) {
  for (let i = 0; i < first; i++) {
    for (let j = 0; j < second; j++) {
      const [x, y] = transposed ? [i, j] : [j, i];
      for (let c = 0; c < 3; c++) {
        data[(i * second + j) * 3 + c] = ((7 * x + 13 * y + 29 * c + x * y) % 256 - 127.5) / 128;
      }
    }
  }
}

async function main() {
  const factory = require(path.resolve(wasm, 'tflite_web_api_cc_simd.js'));
  const tflite = await factory({
    wasmBinary: fs.readFileSync(path.join(wasm, 'tflite_web_api_cc_simd.wasm')), print() {}, printErr() {},
  });
  const reference = {};
  for (const [file, step] of Object.entries(networks)) {
    const bytes = fs.readFileSync(path.join(assets, file));
    const at = tflite._malloc(bytes.length);
    tflite.HEAPU8.set(bytes, at);
    const made = tflite.TFLiteWebModelRunner.CreateFromBufferAndOptions(at, bytes.length,
      {numThreads: 1, enableProfiling: false, maxProfilingBufferEntries: 1});
    if (!made.ok()) throw new Error(made.errorMessage());
    const runner = made.value();
    const input = list(runner.GetInputs())[0];
    const [, first, second] = input.shape.split(',').map(Number);
    draw(input.data(), first, second, file !== 'MobileFaceNet.tflite');
    if (!runner.Infer()) throw new Error(`${file} did not run`);
    reference[file] = {step, outputs: list(runner.GetOutputs()).map((output) => {
      const [pictures] = output.shape.split(',').map(Number);
      const data = output.data();
      return Array.from(data.subarray(0, data.length / pictures)).filter((_, i) => i % step === 0);
    })};
  }
  process.stdout.write(JSON.stringify(reference).replaceAll('},"', '},\n"') + '\n');
}

main();
