// Predict with face-api's age and gender network, on WebAssembly: PATHS.json OUTPUT.json, run in the folder of node_modules.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const require = createRequire(path.join(process.cwd(), "runner.cjs"));
const sharp = require("sharp");
const tf = require("@tensorflow/tfjs");
const wasm = require("@tensorflow/tfjs-backend-wasm");
const faceapi = require("@vladmandic/face-api/dist/face-api.node-wasm.js");

const [pathsFile, outputFile] = process.argv.slice(2);
const paths = JSON.parse(fs.readFileSync(pathsFile, "utf8"));
wasm.setWasmPaths(path.join(process.cwd(), "node_modules/@tensorflow/tfjs-backend-wasm/dist/"));
await tf.setBackend("wasm");
await tf.ready();
await faceapi.nets.ageGenderNet.loadFromDisk(path.join(process.cwd(), "node_modules/@vladmandic/face-api/model"));

async function read(file) {
  const { data, info } = await sharp(file).removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  const picture = tf.tensor3d(new Uint8Array(data), [info.height, info.width, 3], "int32");
  const found = await faceapi.nets.ageGenderNet.predictAgeAndGender(picture);
  picture.dispose();
  return [found.age, found.gender === "female" ? found.genderProbability : 1 - found.genderProbability];
}

const rows = [await read(paths[0])];
const started = process.cpuUsage();
for (const file of paths.slice(1)) rows.push(await read(file));
const spent = process.cpuUsage(started);
fs.writeFileSync(outputFile, JSON.stringify({ rows, cpu: (spent.user + spent.system) / 1e6 }));
