// SPDX-License-Identifier: Apache-2.0
/** One text for one value, whatever order its fields came in, and a short name for it. */

/** JSON with the fields of every object in order; fields that are undefined are left out. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, field]) => `${JSON.stringify(name)}:${canonicalJson(field)}`);
  return `{${fields.join(',')}}`;
}

type Fields = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}

/** True if canonicalJson has the same text for both. Makes no text: what agents compare may have 10,000 Services. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (!isObject(a) || !isObject(b))
    return !isObject(a) && !isObject(b) && canonicalJson(a) === canonicalJson(b);
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  return Array.isArray(a) ? sameList(a, b as unknown as readonly unknown[]) : sameFields(a, b);
}

function sameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((value, i) => sameValue(value, b[i]));
}

function sameFields(a: Fields, b: Fields): boolean {
  let more = 0;
  for (const name of Object.keys(b)) if (b[name] !== undefined) more += 1;
  for (const name of Object.keys(a)) {
    if (a[name] === undefined) continue;
    if (!Object.hasOwn(b, name) || b[name] === undefined || !sameValue(a[name], b[name])) return false;
    more -= 1;
  }
  return more === 0;
}

const PRIME = 0x01000193;

/** 16 hex digits that differ if the text does (two 32-bit FNV-1a hashes; against accidents, not attacks). */
export function shortHash(text: string): string {
  let low = 0x811c9dc5;
  let high = 0x9e3779b9;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    low = Math.imul(low ^ (unit & 0xff), PRIME);
    low = Math.imul(low ^ (unit >>> 8), PRIME);
    high = Math.imul(high ^ unit, PRIME) + (low >>> 7);
  }
  return [high, low].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
}
