// SPDX-License-Identifier: Apache-2.0
/**
 * Prints what the tc programs cost, in instructions a packet:
 * npm run vm -- --icount unshare --net --mount node_modules/.bin/node test/bpf/cost.ts
 *
 * Means something only where the clock counts instructions. A translation changes its packet, so it
 * is run once, and what the kernel needs to take the time is subtracted.
 */
import { Datapath, type RunContext, replyKey, SNAT_MODE } from './datapath.ts';
import { ETH_P, filler, frame, icmpError, packet } from './packet.ts';
import {
  client,
  framed,
  prepare,
  real,
  reply,
  request,
  router,
  SNAT_ADDRESS,
  SNAT_PORT,
  snat,
} from './scene.ts';

const REPEAT = 1000;
const ROUNDS = 15;

using datapath = new Datapath();
prepare(datapath);
datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
datapath.addTranslatedSession({ client, real, port: SNAT_PORT, transport: 'UDP', serviceId: 2 });
datapath.addTranslatedSession({ client, real, port: SNAT_PORT, transport: 'SCTP', serviceId: 3 });
const fresh = { ...client, port: 50000 };
const kept = { ...client, port: 50001 };
datapath.addSession({ client: kept, real, mode: SNAT_MODE.never });

type Run = (context: RunContext) => { readonly durationNs: number };

/** Median of single runs; `before` puts the maps back. */
function single(run: Run, context: RunContext, before?: () => void): number {
  const durations = Array.from({ length: ROUNDS }, () => {
    before?.();
    return run(context).durationNs;
  });
  return durations.sort((a, b) => a - b)[ROUNDS >> 1] ?? 0;
}

const egress =
  (bytes: Uint8Array): Run =>
  (context) =>
    datapath.egress(bytes, context);
const ingress =
  (bytes: Uint8Array): Run =>
  (context) =>
    datapath.ingress(bytes, context);

const unrelated = egress(request('TCP'));
const noFlags = { ipFlags: 0, hint: 0 };
const repeated = unrelated({ ...noFlags, repeat: REPEAT }).durationNs;
const overhead = single(unrelated, noFlags) - repeated;

function report(name: string, instructions: number): void {
  process.stdout.write(`${String(Math.round(instructions)).padStart(6)}  ${name}\n`);
}

const elsewhere = framed('TCP', { from: real, to: { address: SNAT_ADDRESS, port: 443 } });
const inRange = framed('TCP', { from: real, to: { address: '10.0.0.77', port: 20500 } });
const quote = packet('TCP', { from: snat, to: real });
const answer = packet('TCP', { from: real, to: client });
const misses: readonly [string, Run, RunContext][] = [
  ['egress, packet of others', unrelated, noFlags],
  ['egress, rerouted packet of others', unrelated, { hint: 0 }],
  ['egress, rerouted fragment of others', egress(request('UDP', { moreFragments: true })), { hint: 0 }],
  ['ingress, IPv6', ingress(frame(filler(60).fill(0x60, 0, 1), ETH_P.ipv6)), {}],
  ['ingress, packet to a port of others', ingress(elsewhere), {}],
  ['ingress, packet to a port in the ranges, another address', ingress(inRange), {}],
];
process.stdout.write('instructions a packet, with the loop of BPF_PROG_RUN\n');
for (const [name, run, context] of misses) report(name, run({ ...context, repeat: REPEAT }).durationNs);

const incoming = { source: '10.0.0.254', destination: SNAT_ADDRESS, quote };
const outgoing = { source: router, destination: real.address, quote: answer };
const first = () => {
  datapath.addSession({ client: fresh, real });
  for (const [key] of datapath.maps.ipvs_replies) {
    if (key.snat_port !== SNAT_PORT) datapath.maps.ipvs_replies.delete(key);
  }
};
const large = framed('SCTP', { from: client, to: real, payload: filler(1400) });
const hits: readonly [string, Run, RunContext, (() => void)?][] = [
  ['egress, TCP request', egress(request('TCP')), {}],
  ['egress, UDP request', egress(request('UDP')), { hint: 0xb5000002 }],
  ['egress, SCTP request', egress(request('SCTP')), { hint: 0xb5000003 }],
  ['egress, SCTP request of 1,400 bytes', egress(large), { hint: 0xb5000003 }],
  ['egress, first request of a session', egress(framed('TCP', { from: fresh, to: real })), {}, first],
  ['egress, request that keeps its client', egress(framed('TCP', { from: kept, to: real })), {}],
  ['egress, ICMP error', egress(frame(icmpError(outgoing))), {}],
  ['ingress, TCP reply', ingress(reply('TCP')), {}],
  ['ingress, UDP reply', ingress(reply('UDP')), {}],
  ['ingress, SCTP reply', ingress(reply('SCTP')), {}],
  ['ingress, ICMP error', ingress(frame(icmpError(incoming))), {}],
];
process.stdout.write(`instructions a packet, ${overhead} for taking the time subtracted\n`);
for (const [name, run, context, before] of hits) report(name, single(run, context, before) - overhead);
datapath.maps.ipvs_replies.delete(replyKey(real, SNAT_PORT));
report('ingress, packet to the SNAT address without session', single(ingress(reply('TCP')), {}) - overhead);
