// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { type Kernel, type KernelSeries, kernelElf, kernelFor } from '../../scripts/kernels.ts';
import { commandFile, settingsFile } from './command.ts';
import { counterArgs } from './counter.ts';
import { initramfsFor } from './initramfs.ts';
import { kernelProblems } from './kernel-log.ts';
import { kernelArgs, processor, share, tap } from './qemu.ts';
import { StreamEnd } from './stream-end.ts';

export interface VmOptions {
  readonly kernel: KernelSeries;
  /** Path of an executable, a .sh or a .ts file on the host, or the name of a command. */
  readonly script: string;
  readonly args?: readonly string[];
  /** Working directory of the script, on host and guest; the present one when left out. */
  readonly cwd?: string;
  /** Processors; 2 when left out, always 1 with `icount`. */
  readonly smp?: number;
  /** 2048 when left out. */
  readonly memoryMb?: number;
  /** The guest's clock counts instructions: 1 ns is one instruction. */
  readonly icount?: boolean;
  /** The run is ended and has status 124 after so many seconds; 300 when left out. */
  readonly timeoutSeconds?: number;
  /** A directory of the host that the guest sees at the same path and may write to. */
  readonly outDir?: string;
  /** Names of tap devices that QEMU makes for as long as it runs; in the guest they are eth0, eth1 and so on. */
  readonly taps?: readonly string[];
  /** What the script reads from its standard input; nothing when left out. */
  readonly stdin?: Readable;
  /** Is told QEMU's process id. Its thread whose name ends in `/TCG` is the emulated processors. */
  readonly onStart?: (pid: number) => void;
  /** Ends the machine at once; the result then has status `died`. */
  readonly signal?: AbortSignal;
  readonly onStdout: (chunk: Buffer) => void;
  readonly onStderr: (chunk: Buffer) => void;
}

export interface VmResult {
  /** The script's exit status, or one of `vmStatus`. */
  readonly status: number;
  /** The kernel's log as far as it is known. */
  readonly kernelLog: string;
  /** Lines of that log that fail the run. */
  readonly problems: readonly string[];
  /** From the start of QEMU to the start of the script; undefined if it never started. */
  readonly bootMs: number | undefined;
}

/** Exit statuses that are not the script's own. */
export const vmStatus = { timedOut: 124, kernelProblem: 97, died: 98 } as const;

/** Boots a kernel, runs the script in it as root, and returns when the machine is gone. */
export async function runInVm(options: VmOptions): Promise<VmResult> {
  const kernel = await kernelFor(options.kernel);
  const vmlinux = await kernelElf(kernel);
  const initrd = await initramfsFor(kernel);
  const job = await mkdtemp(join(tmpdir(), 'ipvs-bpf-vm-'));
  try {
    await mkdir(join(job, 'guest'));
    const counter = options.icount === true ? '' : await counterArgs();
    return await new Machine(options, kernel, { vmlinux, initrd, counter }, job).run();
  } finally {
    await rm(job, { recursive: true, force: true });
  }
}

interface BootFiles {
  readonly vmlinux: string;
  /** Argument of the kernel. */
  readonly counter: string;
  readonly initrd: string;
}

class Machine {
  readonly #options: VmOptions;
  readonly #kernel: Kernel;
  readonly #boot: BootFiles;
  /** Folder of this run: `guest/` is shared with the guest, the rest is the host's own. */
  readonly #job: string;
  readonly #end = `end-${randomUUID()}`;
  readonly #streams: StreamEnd[];
  readonly #servers: Server[] = [];
  #kernelLog = '';
  #control = '';
  #bootMs: number | undefined;
  #started = 0;
  #onAllEnded: () => void = () => undefined;

  constructor(options: VmOptions, kernel: Kernel, boot: BootFiles, job: string) {
    this.#options = options;
    this.#kernel = kernel;
    this.#boot = boot;
    this.#job = job;
    this.#streams = [
      new StreamEnd(this.#end, options.onStdout),
      new StreamEnd(this.#end, options.onStderr),
      new StreamEnd(this.#end, (chunk) => {
        this.#kernelLog += chunk.toString('utf8');
      }),
      new StreamEnd(this.#end, (chunk) => this.#onControl(chunk)),
    ];
  }

  async run(): Promise<VmResult> {
    await this.#writeGuestFiles();
    this.#started = Date.now();
    let timedOut = false;
    const qemu = await this.#start();
    const timer = setTimeout(
      () => {
        timedOut = true;
        qemu.kill('SIGKILL');
      },
      (this.#options.timeoutSeconds ?? 300) * 1000,
    );
    const errors = await ended(qemu);
    clearTimeout(timer);
    for (const server of this.#servers) server.close();
    for (const stream of this.#streams) stream.flush();
    return await this.#result(timedOut, errors);
  }

  async #result(timedOut: boolean, errors: string): Promise<VmResult> {
    const console = await this.#console();
    const kernelLog = this.#kernelLog || `${console}${errors}`;
    const problems = [...new Set([...kernelProblems(console), ...kernelProblems(this.#kernelLog)])];
    const scriptStatus = /^start\n(\d+)\n/.exec(this.#control)?.[1];
    const own = scriptStatus === undefined ? vmStatus.died : Number(scriptStatus);
    const status = problems.length > 0 ? vmStatus.kernelProblem : timedOut ? vmStatus.timedOut : own;
    return { status, kernelLog, problems, bootMs: this.#bootMs };
  }

  /** What the serial console got; QEMU may have failed before it made the file. */
  async #console(): Promise<string> {
    const file = join(this.#job, 'console.log');
    return existsSync(file) ? (await readFile(file, 'utf8')).replaceAll('\r', '') : '';
  }

  async #writeGuestFiles(): Promise<void> {
    const guest = join(this.#job, 'guest');
    await copyFile(join(import.meta.dirname, 'guest-init.sh'), join(guest, 'guest-init.sh'));
    const modules = join(this.#kernel.imageDir, 'lib/modules', this.#kernel.release);
    const settings = {
      RELEASE: this.#kernel.release,
      MODULES: modules,
      END: this.#end,
      OUT: this.#outDir,
      STDIN: this.#options.stdin === undefined ? '' : 'yes',
    };
    await writeFile(join(guest, 'settings.sh'), settingsFile(settings));
    await writeFile(join(guest, 'command.sh'), commandFile(this.#options));
  }

  get #outDir(): string {
    return this.#options.outDir === undefined ? '' : resolve(this.#options.outDir);
  }

  async #start(): Promise<ChildProcess> {
    const ports: string[] = [];
    const { stdin } = this.#options;
    const receivers = this.#streams.map((stream) => (socket: Socket) => this.#receive(socket, stream));
    const senders = stdin === undefined ? [] : [(socket: Socket) => void stdin.pipe(socket)];
    for (const [index, connected] of [...receivers, ...senders].entries()) {
      const path = join(this.#job, `port${index + 1}`);
      await this.#listen(path, connected);
      ports.push(
        ...['-chardev', `socket,id=port${index + 1},path=${path}`],
        ...['-device', `virtserialport,chardev=port${index + 1},nr=${index + 1}`],
      );
    }
    // If this process dies, even by SIGKILL, the machine dies with it.
    const args = ['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', ...this.#qemuArgs(), ...ports];
    const qemu = spawn('setpriv', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    qemu.once('spawn', () => this.#options.onStart?.(qemu.pid ?? Number.NaN));
    this.#onAllEnded = () => qemu.kill('SIGKILL');
    this.#options.signal?.addEventListener('abort', this.#onAllEnded);
    if (this.#options.signal?.aborted) this.#onAllEnded();
    return qemu;
  }

  #receive(socket: Socket, stream: StreamEnd): void {
    socket.on('data', (chunk: Buffer) => {
      stream.push(chunk);
      if (this.#streams.every((each) => each.ended)) this.#onAllEnded();
    });
  }

  #listen(path: string, connected: (socket: Socket) => void): Promise<void> {
    const server = createServer((socket) => {
      // QEMU was killed: whatever it had sent is here already
      socket.on('error', () => socket.destroy());
      connected(socket);
    });
    this.#servers.push(server);
    return new Promise((done, failed) => {
      server.once('error', failed);
      server.listen(path, done);
    });
  }

  #onControl(chunk: Buffer): void {
    this.#control += chunk.toString('utf8');
    this.#bootMs ??= Date.now() - this.#started;
  }

  #qemuArgs(): string[] {
    const { icount = false, memoryMb = 2048 } = this.#options;
    const smp = icount ? 1 : (this.#options.smp ?? 2);
    return [
      ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-machine', 'pc'],
      ...['-name', 'debug-threads=on'],
      ...processor({ icount }),
      ...['-smp', String(smp), '-m', String(memoryMb)],
      // One thread for all processors: with one each, QEMU before 8.1 may run code that another processor
      // is just patching (static keys), which ends in "Oops: int3" in one boot of a hundred. VM_THREADS=multi
      // is for a test by hand of what two processors do at the same time.
      ...['-accel', `tcg,thread=${smp > 1 && process.env.VM_THREADS === 'multi' ? 'multi' : 'single'}`],
      ...(icount ? ['-icount', 'shift=0,sleep=off'] : []),
      ...['-kernel', this.#boot.vmlinux, '-initrd', this.#boot.initrd],
      ...[
        '-append',
        [...kernelArgs, this.#boot.counter, hungTaskArg(icount)].join(' '),
        '-serial',
        `file:${join(this.#job, 'console.log')}`,
      ],
      ...share('root', '/', 'readonly=on'),
      ...share('job', join(this.#job, 'guest'), 'readonly=off'),
      ...(this.#outDir === '' ? [] : share('out', this.#outDir, 'readonly=off')),
      ...(this.#options.taps ?? []).flatMap(tap),
      ...['-device', 'virtio-serial-pci'],
    ];
  }
}

/**
 * With -icount the guest's clock jumps ahead whenever it is idle, also while it waits for a file of the
 * host, which then looks like minutes: no tasks are reported as hung.
 */
function hungTaskArg(icount: boolean): string {
  return `sysctl.kernel.hung_task_timeout_secs=${icount ? 0 : 60}`;
}

/** Waits until QEMU and its ports are gone; returns what it said on standard error. */
function ended(qemu: ChildProcess): Promise<string> {
  return new Promise((done, failed) => {
    let errors = '';
    qemu.stderr?.on('data', (chunk: Buffer) => {
      errors += chunk.toString('utf8');
    });
    qemu.on('error', (error) => failed(new Error(`cannot run QEMU: ${error.message}`, { cause: error })));
    qemu.on('close', () => done(errors));
  });
}
