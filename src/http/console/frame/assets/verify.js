// Checks that an event is in the sealed audit log, with nothing but the event's fields, its proof and a key: the
// bytes of the event (RFC 8785), the leaf and the path up to the root (RFC 6962, followed as RFC 9162 says), the
// checkpoint's signature (C2SP signed-note). docs/AUDIT.md specifies all of it. Knows no page and no network.

const utf8 = new TextEncoder();

/** All members of an event's bytes. */
export const FIELDS = [
  "error_code", "error_message", "event_data", "event_type", "id", "issuer", "policy_rule", "request_id",
  "request_ip", "runner_id", "runner_name", "severity", "subject", "success", "target", "team", "timestamp",
  "user_agent", "user_identity", "xid",
];

/** The bytes that are hashed. JSON.stringify writes texts as RFC 8785 demands: it is what that describes. */
export function recordBytes(fields) {
  const missing = FIELDS.filter((name) => !(name in fields));
  const unknown = Object.keys(fields).filter((name) => !FIELDS.includes(name));
  if (missing.length || unknown.length) throw new Error(`not the fields of an event: ${[...missing, ...unknown]}`);
  return utf8.encode(JSON.stringify(Object.fromEntries(FIELDS.map((name) => [name, fields[name]]))));
}

function joined(...parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

export function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

function same(a, b) {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

export function leafHash(bytes) {
  return sha256([0], bytes);
}

/** The root to which this leaf leads (RFC 9162, 2.1.3.2). Null: the path is too long or too short. */
export async function rootFrom(leaf, index, size, path) {
  let [node, last, hash] = [BigInt(index), BigInt(size) - 1n, leaf];
  if (node < 0n || node > last) return null;
  for (const sibling of path) {
    if (last === 0n) return null;
    if (node & 1n || node === last) {
      hash = await sha256([1], sibling, hash);
      while (!(node & 1n) && node !== 0n) [node, last] = [node >> 1n, last >> 1n];
    } else {
      hash = await sha256([1], hash, sibling);
    }
    [node, last] = [node >> 1n, last >> 1n];
  }
  return last === 0n ? hash : null;
}

/** A checkpoint's origin, size and root, the text that is signed, and its signatures. */
export function readCheckpoint(note) {
  const end = note.indexOf("\n\n");
  const text = end < 0 ? note : note.slice(0, end + 1);
  const [origin, size, root] = text.split("\n");
  if (!origin || !/^(0|[1-9][0-9]*)$/.test(size ?? "") || !root) throw new Error("not a checkpoint");
  const lines = end < 0 ? [] : note.slice(end + 2).split("\n").filter(Boolean);
  const signatures = lines.map((line) => {
    const [, name, encoded] = /^— (\S+) (\S+)$/.exec(line) ?? [];
    if (!name) throw new Error("not a signature line");
    const bytes = fromBase64(encoded);
    return { name, id: bytes.slice(0, 4), signature: bytes.slice(4) };
  });
  return { origin, size: BigInt(size), root: fromBase64(root), text, signatures };
}

/** A verifier's key: name+id+base64. Its id must be what its name and key make. */
export async function readKey(vkey) {
  const [, name, id, encoded] = /^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/.exec(vkey.trim()) ?? [];
  if (!name) throw new Error("not a verifier key");
  const bytes = fromBase64(encoded);
  if (bytes[0] !== 1 || bytes.length !== 33) throw new Error("not an Ed25519 key");
  const computed = (await sha256(utf8.encode(`${name}\n`), bytes)).slice(0, 4);
  const wanted = Uint8Array.from(id.match(/../g), (byte) => parseInt(byte, 16));
  if (!same(computed, wanted)) throw new Error("the id of the key does not match its name and bytes");
  return { name, id: wanted, key: bytes.slice(1) };
}

/** True or false; null where this browser knows no Ed25519. */
async function isSignedBy(checkpoint, key) {
  const own = checkpoint.signatures.find((one) => one.name === key.name && same(one.id, key.id));
  if (!own) return false;
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", key.key, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
  return crypto.subtle.verify({ name: "Ed25519" }, imported, own.signature, utf8.encode(checkpoint.text));
}

/** Who signed: the first line of the keys whose signature the checkpoint has. */
async function signature(checkpoint, vkeys) {
  if (checkpoint.signatures.length === 0) {
    return { state: "warning", detail: "the checkpoint is not signed: compare it with your own copy" };
  }
  const lines = vkeys.split("\n").filter((line) => line.trim());
  if (lines.length === 0) return { state: "warning", detail: "no verifier key given" };
  for (const line of lines) {
    const key = await readKey(line);
    const signed = await isSignedBy(checkpoint, key);
    if (signed === null) {
      return { state: "warning", detail: "this browser does not support Ed25519: use the command line below" };
    }
    if (signed) return { state: "ok", detail: `signed by ${line.trim()}` };
  }
  return { state: "fault", detail: "the checkpoint is not signed by this key" };
}

/**
 * Checks an event against its proof. `fields`: what the page shows, null for what is not set; `proof`: as
 * /api/v1/audit/{id}/proof answers; `vkeys`: the verifier's keys, a line each. Yields the steps in their order: what
 * was checked, `ok`, `warning` (it could not be) or `fault`, and what came out. After a fault nothing follows.
 */
export async function* steps(fields, proof, vkeys) {
  const bytes = recordBytes(fields);
  yield { what: "Bytes of the event", state: "ok", detail: `${bytes.length} bytes, from the ${FIELDS.length} fields shown` };
  const leaf = await leafHash(bytes);
  const isLeaf = fields.id === String(proof.event_id) && same(leaf, fromBase64(proof.leaf_hash));
  yield {
    what: "Leaf hash, SHA-256(0x00 ‖ bytes)",
    state: isLeaf ? "ok" : "fault",
    detail: isLeaf ? toBase64(leaf) : `${toBase64(leaf)} is not the leaf ${proof.leaf_hash}: a field was changed`,
  };
  if (!isLeaf) return;
  const root = await rootFrom(leaf, proof.leaf_index, proof.tree_size, proof.hashes.map(fromBase64));
  yield {
    what: `Path to the root, ${proof.hashes.length} hashes`,
    state: root ? "ok" : "fault",
    detail: root ? toBase64(root) : `no path from leaf ${proof.leaf_index} of ${proof.tree_size}`,
  };
  if (!root) return;
  const checkpoint = readCheckpoint(proof.checkpoint);
  const fits = checkpoint.size === BigInt(proof.tree_size) && same(checkpoint.root, root);
  yield {
    what: "Size and root of the checkpoint",
    state: fits ? "ok" : "fault",
    detail: `${checkpoint.size} leaves, ${toBase64(checkpoint.root)}${fits ? "" : "; the path leads to another root"}`,
  };
  if (!fits) return;
  yield { what: "Signature of the checkpoint", ...(await signature(checkpoint, vkeys)) };
}
