// Holds custom resources against the types of those who define them: JSON documents on standard input. As literals
// in TypeScript, so that a field nobody knows is an error too.
import { readFileSync } from 'node:fs';
import ts from 'typescript';

const monitoring = '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
const MODULES = {
  ServiceMonitor: `${monitoring}/ServiceMonitor`,
  PrometheusRule: `${monitoring}/PrometheusRule`,
  HTTPRoute: '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute',
};

const documents = JSON.parse(readFileSync(0, 'utf8')).filter(({ kind }) => kind in MODULES);
const source = documents
  .map((document, at) => {
    const { kind } = document;
    const name = `I${kind}`;
    return `import type { ${name} as T${at} } from ${JSON.stringify(MODULES[kind])};
export const d${at}: T${at} = ${JSON.stringify(document, null, 1)};`;
  })
  .join('\n');

const file = new URL('checked.mts', import.meta.url).pathname;
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  types: [],
};
const host = ts.createCompilerHost(options);
const { fileExists, getSourceFile } = host;
host.fileExists = (name) => name === file || fileExists.call(host, name);
host.getSourceFile = (name, ...rest) =>
  name === file ? ts.createSourceFile(name, source, options.target) : getSourceFile.call(host, name, ...rest);
const found = ts.getPreEmitDiagnostics(ts.createProgram([file], options, host));
if (found.length > 0) {
  console.error(ts.formatDiagnostics(found, host));
  process.exit(1);
}
console.log(documents.map(({ kind }) => kind).join(' '));
