// SPDX-License-Identifier: Apache-2.0
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { repository } from './cache.ts';

/** Found next to dist/ at run time: they hold native code. */
const external = ['koffi', 'netlink'];

/** What CommonJS packages inside of an ESM bundle need. */
const banner = `import { createRequire as createRequireOfBundle } from 'node:module';
const require = createRequireOfBundle(import.meta.url);`;

const kubernetesClient = '@kubernetes/client-node';
const kubernetesIndex = `node_modules/${kubernetesClient}/dist/index.js`;
const informer = `${kubernetesClient}/dist/cache.js`;
const operatorLibrary = 'node_modules/@dot-i/k8s-operator/dist';

/**
 * What the operator library asks the API server by, which src/adapters/kubernetes-operator.ts replaces: it makes
 * objects of these classes, and no more. With all that they need they are 7 MB of code.
 */
const replacedClients: readonly string[] = ['CoreV1Api', 'ApiextensionsV1Api'];
const replacedHttp = 'gaxios';
const replacedFunctions: readonly string[] = ['loadYaml'];
const unused = "() => { throw new Error('src/adapters/kubernetes-operator.ts replaces this call'); }";

/**
 * For processes that stay: memory goes before speed. By itself V8 lets garbage grow to several times of what is alive,
 * and glibc keeps what was freed; with both an agent had 340 MB at 10,000 Services, of which 37 were in use.
 */
export const lowMemory = {
  flags: ['--optimize-for-size'],
  /** For objects that were made a moment ago. What an operator works on at once is more than an agent has. */
  youngMiB: { agent: 1, operator: 4 },
  environment: {
    MALLOC_ARENA_MAX: '1',
    MALLOC_MMAP_THRESHOLD_: '131072',
    MALLOC_TRIM_THRESHOLD_: '131072',
  },
} as const;

/** Finds the pinned Node of this installation, from whatever folder and through symbolic links. */
const launcher = `#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
dist=$(dirname -- "$(readlink -f -- "$0")")
flags='--disable-warning=ExperimentalWarning --disable-warning=DEP0040'
case \${1-} in
agent) young=${lowMemory.youngMiB.agent} ;;
operator) young=${lowMemory.youngMiB.operator} ;;
*) young= ;;
esac
if [ -n "$young" ]; then
	flags="$flags ${lowMemory.flags.join(' ')} --max-semi-space-size=$young"
	export ${Object.entries(lowMemory.environment)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')}
fi
# shellcheck disable=SC2086 # several words
exec "$dist/../node_modules/.bin/node" $flags "$dist/ipvs-bpf.mjs" "$@"
`;

/** kubectl finds a plugin by its file's name: this one is `kubectl ipvs-bpf`. */
const launchers = ['ipvs-bpf', 'kubectl-ipvs_bpf'] as const;

/**
 * Commands that run for long, by the module that src/cli/program.ts imports for them. Each has a bundle of its own: in
 * a common one the agent would load what only the operator needs, twice its own size, at each start on each node.
 */
const ownBundles: Readonly<Record<string, string>> = {
  '../agent/kubernetes-command.ts': 'agent',
  '../operator/main.ts': 'operator',
};

/** Bundles src/cli.ts into dist/: the launcher under both names, ipvs-bpf.mjs and what it imports later. */
export async function buildCli(): Promise<string> {
  const target = join(repository, 'dist');
  await mkdir(target, { recursive: true });
  const temporary = await mkdtemp(join(target, '.new-'));
  try {
    await bundle(temporary);
    for (const name of launchers) await writeFile(join(temporary, name), launcher, { mode: 0o755 });
    const files = await readdir(temporary);
    for (const name of files) await rename(join(temporary, name), join(target, name));
    await removeOthers(target, files);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return target;
}

/**
 * Leaves out what nobody uses of the Kubernetes client: its classes for every kind there is take 12 MB of code and
 * 40 MB of memory. esbuild keeps all of a package that CommonJS code requires, so the operator library gets a
 * module that has only the names which stand in its code.
 */
function onlyWhatIsUsed(): Plugin {
  return {
    name: 'only-what-is-used',
    setup({ onResolve, onLoad }) {
      const fromLibrary = (importer: string): boolean => importer.includes(operatorLibrary);
      onResolve({ filter: new RegExp(`^${kubernetesClient}$`) }, ({ importer }) =>
        fromLibrary(importer)
          ? { path: kubernetesClient, namespace: 'used' }
          : { path: join(repository, kubernetesIndex), sideEffects: false },
      );
      onResolve({ filter: new RegExp(`^${replacedHttp}$`) }, ({ path, importer }) =>
        fromLibrary(importer) ? { path, namespace: 'used' } : undefined,
      );
      onResolve({ filter: /^\.\/serializer\.js$/ }, ({ path, importer }) =>
        importer.endsWith(informer) ? { path, namespace: 'used' } : undefined,
      );
      onResolve({ filter: /^\.\/models\/all\.js$/ }, ({ path, importer }) =>
        importer.includes(`/${kubernetesClient}/`) ? { path, namespace: 'used' } : undefined,
      );
      onLoad({ filter: /./, namespace: 'used' }, async ({ path }) => ({
        contents: await contentsOf(path),
        resolveDir: repository,
      }));
      onResolve({ filter: /^\.\.?\// }, ({ path, importer, resolveDir }) =>
        importer.includes(`/${kubernetesClient}/`)
          ? { path: join(resolveDir, path), sideEffects: false }
          : undefined,
      );
    },
  };
}

async function contentsOf(path: string): Promise<string> {
  if (path === replacedHttp) return `export const instance = { request: ${unused} };`;
  // Classes of every kind: to us, objects are what the API server sends. What asked for one would not be built.
  if (path === './models/all.js') return '';
  // The informer has nothing but selectors made into text, which are texts.
  if (path !== kubernetesClient) return 'export const ObjectSerializer = { serialize: (text) => text };';
  const replaced = [
    ...replacedClients.map((name) => `export class ${name} {}`),
    ...replacedFunctions.map((name) => `export const ${name} = ${unused};`),
  ];
  const names = (await usedNames()).filter(
    (name) => ![...replacedClients, ...replacedFunctions].includes(name),
  );
  return [`export { ${names.join(', ')} } from '${kubernetesClient}';`, ...replaced].join('\n');
}

/** What the operator library takes from the Kubernetes client. */
async function usedNames(): Promise<string[]> {
  const directory = join(repository, operatorLibrary);
  const files = (await readdir(directory)).filter((name) => name.endsWith('.js'));
  const code = await Promise.all(files.map((name) => readFile(join(directory, name), 'utf8')));
  const words = new Set(code.join('\n').match(/\w+/g));
  return Object.keys(await import('@kubernetes/client-node')).filter((name) => words.has(name));
}

/**
 * Node keeps the text of a program in memory, two bytes a letter if a single one is not ASCII: comments go. Names stay,
 * and lines are short, for the places that errors name.
 */
const compact = { minifyWhitespace: true, lineLimit: 120 } as const satisfies BuildOptions;

/** How our sources become JavaScript that runs beside node_modules. */
export const bundling = {
  absWorkingDir: repository,
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  outExtension: { '.js': '.mjs' },
  chunkNames: 'chunk-[hash]',
  external,
  banner: { js: banner },
  logLevel: 'warning',
} as const satisfies BuildOptions;

/**
 * Node's own modules as CommonJS has them. An ESM import of node:http or node:crypto reads every export at once, those
 * too that Node loads only when they are asked for: half of the time that a command took to start.
 */
const builtinsByRequire: Plugin = {
  name: 'builtins-by-require',
  setup({ onResolve, onLoad }) {
    const filter = new RegExp(`^(node:.+|${builtinModules.join('|')})$`);
    onResolve({ filter }, ({ path }) => ({ path, namespace: 'builtin' }));
    onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

/** Leaves the commands with bundles of their own out of the command line's. */
const withoutOwnBundles: Plugin = {
  name: 'without-own-bundles',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.\/.+\/.+\.ts$/ }, ({ path, kind }) => {
      const name = kind === 'dynamic-import' ? ownBundles[path] : undefined;
      return name === undefined ? undefined : { path: `./${name}.mjs`, external: true };
    });
  },
};

async function bundle(directory: string): Promise<void> {
  const options: BuildOptions = { ...bundling, ...compact, outdir: directory, legalComments: 'linked' };
  await build({
    ...options,
    entryPoints: { 'ipvs-bpf': 'src/cli.ts' },
    plugins: [withoutOwnBundles, builtinsByRequire, onlyWhatIsUsed()],
  });
  for (const [path, name] of Object.entries(ownBundles)) {
    await build({
      ...options,
      entryPoints: { [name]: join('src/cli', path) },
      splitting: false,
      plugins: [builtinsByRequire, onlyWhatIsUsed()],
    });
  }
}

/** Chunks of earlier builds: their names hold their hash. */
async function removeOthers(target: string, names: readonly string[]): Promise<void> {
  for (const name of await readdir(target)) {
    if (!names.includes(name)) await rm(join(target, name), { recursive: true, force: true });
  }
}
