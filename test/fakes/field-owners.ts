// SPDX-License-Identifier: Apache-2.0
/** Fields of an object by path, as server-side apply counts them; conditions are a map by type, other lists whole. */

export type Fields = Readonly<Record<string, unknown>>;

/** Path → value, for every leaf; "" in front, joined by a character that no name has. */
export function leaves(fields: Fields, prefix = ''): Map<string, unknown> {
  const found = new Map<string, unknown>();
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const path = prefix === '' ? name : `${prefix}\n${name}`;
    const inner = asMap(name, value);
    if (inner === undefined) found.set(path, value);
    else for (const [below, leaf] of leaves(inner, path)) found.set(below, leaf);
  }
  return found;
}

export function mergeFields(into: Fields, from: Fields): Fields {
  const merged: Record<string, unknown> = { ...into };
  for (const [name, value] of Object.entries(from)) {
    if (value === undefined) continue;
    const inner = asMap(name, value);
    const before = asMap(name, merged[name]) ?? {};
    merged[name] = inner === undefined ? value : fromMap(name, mergeFields(before, inner));
  }
  return merged;
}

export function removeLeaf(fields: Fields, path: string): Fields {
  const [first = '', ...rest] = path.split('\n');
  const { [first]: value, ...others } = fields;
  if (rest.length === 0 || value === undefined) return others;
  const inner = removeLeaf(asMap(first, value) ?? {}, rest.join('\n'));
  return Object.keys(inner).length === 0 ? others : { ...others, [first]: fromMap(first, inner) };
}

function asMap(name: string, value: unknown): Fields | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (!Array.isArray(value)) return value as Fields;
  if (name !== 'conditions') return undefined;
  return Object.fromEntries(value.map((item: { readonly type: string }) => [item.type, item]));
}

function fromMap(name: string, map: Fields): unknown {
  return name === 'conditions' ? Object.values(map) : map;
}
