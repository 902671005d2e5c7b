// SPDX-License-Identifier: Apache-2.0
/** Takes out of objects and logs what looks like a secret, so that they can be given to others. */

const REMOVED = '(removed)';
/** Holds the object as its author wrote it, with all that is taken out elsewhere. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';
/** Names of fields, variables and keys whose value nobody else should see. */
const SECRET_NAME =
  /pass(?:word|wd|phrase)?$|^pwd$|secret$|token$|credential|api[-_.]?key|access[-_.]?key|private[-_.]?key|^auth(?:orization)?$|kubeconfig|dockercfg|dockerconfig/i;
/** Fields of Kubernetes that end like secrets and only name or describe one. */
const HARMLESS = new Set([
  'automountServiceAccountToken',
  'serviceAccountToken',
  'secret',
  'imagePullSecret',
]);

interface Pattern {
  readonly pattern: RegExp;
  readonly replacement: string;
}

const PATTERNS: readonly Pattern[] = [
  {
    pattern: /-----BEGIN [A-Z ]*(?:PRIVATE KEY|CERTIFICATE)-----[\s\S]*?(?:-----END [A-Z ]*-----|$)/g,
    replacement: REMOVED,
  },
  // JSON Web Tokens: service accounts have them.
  { pattern: /\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, replacement: REMOVED },
  { pattern: /\b(bearer|basic)\s+[\w~+/.=-]{8,}/gi, replacement: `$1 ${REMOVED}` },
  { pattern: /(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@:]+:[^\s/@]+@/gi, replacement: `$1${REMOVED}@` },
  // AWS, GitHub, GitLab, Slack
  {
    pattern: /\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,})/g,
    replacement: REMOVED,
  },
  {
    pattern:
      /(["']?[\w.-]*(?:password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key|private[-_]?key)["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^\s,;}"']+)/gi,
    replacement: `$1${REMOVED}`,
  },
];

/** Text, such as a log. What tells nothing of a secret stays as it is. */
export function redactText(text: string): string {
  return PATTERNS.reduce((result, { pattern, replacement }) => result.replace(pattern, replacement), text);
}

/**
 * An object of Kubernetes without managed fields, last-applied annotation, values of secret-looking names, and
 * secret-looking words in other values.
 */
export function redactObject(value: unknown): unknown {
  if (typeof value === 'string') return redactText(value);
  if (Array.isArray(value)) return value.map(redactObject);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([key]) => key !== 'managedFields' && key !== LAST_APPLIED);
  const hidden = isSecretPair(value);
  return Object.fromEntries(
    entries.map(([key, item]) => [
      key,
      isSecret(key, item) || (hidden && key === 'value') ? REMOVED : redactObject(item),
    ]),
  );
}

/** {name: "API_TOKEN", value: "…"}, as environment variables are. */
function isSecretPair(value: object): boolean {
  return (
    'name' in value && 'value' in value && typeof value.name === 'string' && SECRET_NAME.test(value.name)
  );
}

/** Names of Secrets, as in imagePullSecrets, are none. */
function isSecret(key: string, value: unknown): boolean {
  return typeof value === 'string' && SECRET_NAME.test(key) && !HARMLESS.has(key);
}
