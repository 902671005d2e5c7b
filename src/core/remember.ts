// SPDX-License-Identifier: Apache-2.0

/**
 * The same function, asked once an object: its answer is kept as long as the object is. Only for objects that nobody
 * changes, as those of a watch: a change of theirs is another object.
 */
export function remember<K extends object, V>(compute: (key: K) => V): (key: K) => V {
  const known = new WeakMap<K, { readonly value: V }>();
  return (key) => {
    let found = known.get(key);
    if (found === undefined) {
      found = { value: compute(key) };
      known.set(key, found);
    }
    return found.value;
  };
}
