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

/**
 * The same function, which gives its last answer again if it is asked with the very same arguments: values, or objects
 * that nobody changes. For what is worked out of thousands of objects at each look, most often from the same ones.
 */
export function rememberLast<A extends readonly unknown[], V>(compute: (...args: A) => V): (...args: A) => V {
  let last: { readonly args: A; readonly value: V } | undefined;
  return (...args) => {
    if (last === undefined || args.some((arg, i) => !Object.is(arg, last?.args[i]))) {
      last = { args, value: compute(...args) };
    }
    return last.value;
  };
}
