// SPDX-License-Identifier: Apache-2.0
/** Shell scripts that complete commands, options and their values, made from the tree of commands. */
import type { Command, Option } from 'commander';

export type Shell = 'bash' | 'zsh' | 'fish';

/** A command with its place in the tree. */
export interface CommandNode {
  /** "node up"; "" for the program itself. */
  readonly path: string;
  readonly description: string;
  readonly subcommands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly OptionNode[];
  /** What its arguments may be, where that is known. */
  readonly choices: readonly string[];
}

export interface OptionNode {
  /** "--output" and "-o" */
  readonly flags: readonly string[];
  readonly description: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
  /** A path of a file is wanted. */
  readonly file: boolean;
}

/** Every command that help shows, the program itself first. */
export function commandTree(program: Command): readonly CommandNode[] {
  return visit(program, '');
}

function visit(command: Command, path: string): readonly CommandNode[] {
  const help = command.createHelp();
  const children = help.visibleCommands(command);
  const node: CommandNode = {
    path,
    description: command.description(),
    subcommands: children.map((child) => ({ name: child.name(), description: child.description() })),
    options: help.visibleOptions(command).map(optionNode),
    choices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  };
  return [
    node,
    ...children
      .filter((child) => child.name() !== 'help')
      .flatMap((child) => visit(child, `${path} ${child.name()}`.trim())),
  ];
}

function optionNode(option: Option): OptionNode {
  const takesValue = option.required || option.optional;
  return {
    flags: [option.long, option.short].filter((flag) => flag !== undefined && flag !== null),
    description: option.description,
    takesValue,
    choices: option.argChoices ?? [],
    file: takesValue && /<(file|directory)>/.test(option.flags),
  };
}

export function completionScript(program: Command, shell: Shell): string {
  const tree = commandTree(program);
  const name = program.name();
  if (shell === 'fish') return fishScript(name, tree);
  return shell === 'bash' ? bashScript(name, tree) : zshScript(name, tree);
}

/** How one command is completed: POSIX `case` branches on the path that was typed. */
function branches(tree: readonly CommandNode[]): string {
  const wordsOf = ({ subcommands, options, choices }: CommandNode): string =>
    [...subcommands.map((sub) => sub.name), ...choices, ...options.flatMap(({ flags }) => flags)].join(' ');
  return tree.map((node) => `    '${node.path}') candidates='${wordsOf(node)}' ;;`).join('\n');
}

/** Which options want a value, by "PATH|FLAG", and what it may be. */
function valueBranches(tree: readonly CommandNode[]): string {
  const lines = tree.flatMap(({ path, options }) =>
    options
      .filter(({ takesValue }) => takesValue)
      .map(({ flags, choices, file }) => {
        const patterns = flags.map((flag) => `'${path}|${flag}'`).join(' | ');
        return `      ${patterns}) value=1 candidates='${choices.join(' ')}' files=${file ? '1' : "''"} ;;`;
      }),
  );
  return lines.join('\n');
}

/** Sets candidates and files for the words that were typed; the same for bash and zsh. */
function finder(functionName: string, tree: readonly CommandNode[]): string {
  const paths = tree.flatMap(({ path }) => (path === '' ? [] : [`'${path}'`])).join(' | ');
  return `${functionName}() {
  local typed place='' value=''
  candidates=''
  files=''
  for typed in "$@"; do
    # The value of an option is no command.
    if [ -n "$value" ]; then value=''; continue; fi
    case "$place\${place:+ }$typed" in
      ${paths}) place="$place\${place:+ }$typed"; continue ;;
    esac
    case "$place|$typed" in
${valueBranches(tree)}
    esac
  done
  if [ -n "$value" ]; then return; fi
  files=''
  case "$place" in
${branches(tree)}
  esac
}`;
}

function bashScript(name: string, tree: readonly CommandNode[]): string {
  const id = name.replaceAll('-', '_');
  return `# bash completion for ${name}; "source <(${name} completion bash)"
${finder(`_${id}_find`, tree)}

_${id}() {
  local candidates files current="\${COMP_WORDS[COMP_CWORD]}"
  _${id}_find "\${COMP_WORDS[@]:1:COMP_CWORD-1}"
  if [ -n "$files" ]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    compopt -o filenames 2>/dev/null || :
  else
    mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
  fi
}

complete -F _${id} ${name}
`;
}

function zshScript(name: string, tree: readonly CommandNode[]): string {
  const id = name.replaceAll('-', '_');
  return `#compdef ${name}
# zsh completion for ${name}; put it into a directory of $fpath as _${name}
${finder(`_${id}_find`, tree)}

_${id}() {
  local candidates files
  _${id}_find "\${(@)words[2,CURRENT-1]}"
  if [ -n "$files" ]; then
    _files
  else
    compadd -- \${=candidates}
  fi
}

if [ "$funcstack[1]" = "_${name}" ]; then _${id} "$@"; else compdef _${id} ${name}; fi
`;
}

function fishScript(name: string, tree: readonly CommandNode[]): string {
  const lines = tree.flatMap((node) => fishLines(name, node));
  return `# fish completion for ${name}\ncomplete -c ${name} -f\n${lines.join('\n')}\n`;
}

/** A command is the typed one if its words were typed and none of its subcommands' was. */
function fishLines(name: string, { path, subcommands, options, choices }: CommandNode): string[] {
  const typed = path === '' ? [] : path.split(' ').map((word) => `__fish_seen_subcommand_from ${word}`);
  const names = subcommands.map((sub) => sub.name).join(' ');
  const further = names === '' ? [] : [`not __fish_seen_subcommand_from ${names}`];
  const condition = quoted([...typed, ...further].join('; and '));
  const begin = `complete -c ${name} -n ${condition}`;
  return [
    ...subcommands.map((sub) => `${begin} -a ${sub.name} -d ${quoted(sub.description)}`),
    ...choices.map((choice) => `${begin} -a ${choice}`),
    ...options.map(({ flags, description, takesValue, choices: values, file }) => {
      const parts = flags.map((flag) =>
        flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      );
      const wants = takesValue ? [file ? '-r -F' : '-x'] : [];
      const accepted = values.length > 0 ? [`-a ${quoted(values.join(' '))}`] : [];
      return [begin, ...parts, ...wants, ...accepted, `-d ${quoted(description)}`].join(' ');
    }),
  ];
}

/** For fish, in single quotes. */
function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
