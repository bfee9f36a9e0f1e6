// A real OpenID provider (npm oidc-provider) that people sign in at: any login name, any password. What a name's
// claims are stands in ACCOUNTS. Prints one line of JSON with its issuer once it listens, and ends when its
// standard input does.
//
//   node login-provider.mjs REDIRECT_URI [ACCOUNTS as JSON: {login: {claim: value}}]
//
// The one client is `console`, secret `console-secret`.

import { webcrypto } from "node:crypto";
import http from "node:http";

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

const [redirectUri, accounts = "{}"] = process.argv.slice(2);
const ACCOUNTS = JSON.parse(accounts);

let handle;
const server = http.createServer((request, response) => handle(request, response));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "console",
      client_secret: "console-secret",
      grant_types: ["authorization_code"],
      response_types: ["code"],
      redirect_uris: [redirectUri],
    },
  ],
  claims: { openid: ["sub", "team", "groups"], profile: ["name", "preferred_username"], email: ["email", "email_verified"] },
  // In the ID token itself, not at userinfo alone.
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...ACCOUNTS[id] }) }),
});
handle = provider.callback();

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
console.log(JSON.stringify({ issuer }));
