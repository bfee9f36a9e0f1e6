// Uses types that openapi-typescript made: provisions a JIT runner, lists runners, prints both as JSON.

import type { components, paths } from "./api.mjs";

type JitRequest = components["schemas"]["JitRequest"];
type JitRunner = paths["/api/v1/runners/jit"]["post"]["responses"][201]["content"]["application/json"];
type RunnerList = paths["/api/v1/runners"]["get"]["responses"][200]["content"]["application/json"];
type Problem = paths["/api/v1/runners/jit"]["post"]["responses"]["4XX"]["content"]["application/problem+json"];

const { BROKER_URL: url, BROKER_TOKEN: token } = process.env;
const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };

function check(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

async function provision(request: Partial<JitRequest>): Promise<Response> {
  return fetch(`${url}/api/v1/runners/jit`, { method: "POST", headers, body: JSON.stringify(request) });
}

const answer = await provision({ runner_name: "from-typescript", labels: ["docker"], arch: "arm64" });
const made = (await answer.json()) as JitRunner;
check(answer.status === 201, made);
check(made.labels.includes("arm64"), made.labels);

const refused = await provision({ runner_name: "refused", labels: ["gpu"] });
const problem = (await refused.json()) as Problem;
check(refused.status === 403 && problem.error_code === "LABEL_POLICY_VIOLATION", problem);

const list = (await (await fetch(`${url}/api/v1/runners?status=pending`, { headers })).json()) as RunnerList;
const first = list.runners[0];
check(first?.runner_id === made.runner_id && first.deleted_at === null, list);

// @ts-expect-error the types know which fields there are
const misspelt: Partial<JitRequest> = { runner_nam: "x" };
// @ts-expect-error and what they may hold
const impossible: Partial<JitRequest> = { arch: "vax" };
void [misspelt, impossible];

const { runner_name, encoded_jit_config } = made;
console.log(JSON.stringify({ runner_name, encoded_jit_config, listed: list.runners.length }));
