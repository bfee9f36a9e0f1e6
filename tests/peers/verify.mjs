// Runs the console's verifier outside of a browser: `node verify.mjs <verify.js>` reads {fields, proof, vkeys} from its
// standard input and prints the steps. Node's WebCrypto stands in for the browser's.
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";

const source = await readFile(process.argv[2], "base64");
const { steps } = await import(`data:text/javascript;base64,${source}`);
const { fields, proof, vkeys } = JSON.parse(await text(process.stdin));
const done = [];
for await (const step of steps(fields, proof, vkeys)) done.push(step);
console.log(JSON.stringify(done));
