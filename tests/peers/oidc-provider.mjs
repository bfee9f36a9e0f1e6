// A real OpenID provider (npm oidc-provider) on a free port. Prints one line of JSON with its issuer once it
// listens, and ends when its standard input does, so that nothing is left behind by a test that dies.
//
//   POST /_control/rotate    new keys sign from now on; the old ones stay published
//   POST /_control/withdraw  only the newest keys stay published
//
// Tokens: client_credentials, client `machine`, secret `secret`; `resource` says how they are signed.
// People: clients `console` (RS256) and `console-es256`, secret `secret`; anybody may be anybody, carol is an admin.

import { generateKeyPairSync, randomUUID, webcrypto } from "node:crypto";
import http from "node:http";

// Nobody reads its output after the first line.
console.info = console.error;

// What Node 18 lacks or keeps out of sight.
globalThis.crypto ??= webcrypto;
URL.parse ??= (url, base) => {
  try {
    return new URL(url, base);
  } catch {
    return null;
  }
};
const { default: Provider } = await import("oidc-provider");

const ALGORITHMS = { "urn:runner-broker:rs256": "RS256", "urn:runner-broker:es256": "ES256" };

function newKeys() {
  const pairs = [
    ["RS256", generateKeyPairSync("rsa", { modulusLength: 2048 })],
    ["ES256", generateKeyPairSync("ec", { namedCurve: "P-256" })],
  ];
  return pairs.map(([alg, { privateKey }]) => ({
    ...privateKey.export({ format: "jwk" }),
    kid: randomUUID(),
    use: "sig",
    alg,
  }));
}

const consoles = [
  { client_id: "console", id_token_signed_response_alg: "RS256" },
  {
    client_id: "console-es256",
    id_token_signed_response_alg: "ES256",
    token_endpoint_auth_method: "client_secret_post",
  },
];

function account(_ctx, id) {
  const groups = [id === "carol" ? "admins" : "people"];
  const claims = () => ({ sub: id, email: `${id}@example.com`, email_verified: true, groups });
  return { accountId: id, claims };
}

function provider(issuer, keys) {
  return new Provider(issuer, {
    clients: [
      {
        client_id: "machine",
        client_secret: "secret",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
      },
      ...consoles.map((client) => ({
        ...client,
        client_secret: "secret",
        redirect_uris: ["http://127.0.0.1/sign-in/peer/callback"],
      })),
    ],
    findAccount: account,
    claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
    // The first key that fits signs.
    jwks: { keys },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource) => ({
          audience: "runner-broker",
          scope: "",
          accessTokenFormat: "jwt",
          accessTokenTTL: 3600,
          jwt: { sign: { alg: ALGORITHMS[resource] } },
        }),
      },
    },
    extraTokenClaims: () => ({ team: "blue" }),
  });
}

let handle;
const server = http.createServer((request, response) => handle(request, response));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

let keys = newKeys();
let serve = provider(issuer, keys).callback();
handle = (request, response) => {
  if (request.url === "/_control/rotate") {
    keys = [...newKeys(), ...keys];
  } else if (request.url === "/_control/withdraw") {
    keys = keys.slice(0, 2);
  } else {
    return serve(request, response);
  }
  serve = provider(issuer, keys).callback();
  response.writeHead(204).end();
};

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
console.log(JSON.stringify({ issuer }));
