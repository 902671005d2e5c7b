// SPDX-License-Identifier: Apache-2.0
import { release } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  attachTc,
  attachTcx,
  BpfLink,
  type BpfObject,
  createClsact,
  destroyClsact,
  detachTc,
  queryTc,
  tcxProgramIds,
  tcxSupported,
  unpin,
} from '../../src/index.ts';
import { bpfError, loadBasic, VethPair } from './fixture.ts';

const ABSENT = 0x7fff;
let object: BpfObject;
let other: BpfObject;
beforeAll(() => {
  object = loadBasic();
  other = loadBasic();
});
afterAll(() => {
  object.close();
  other.close();
});

/** Packets that the program `count` of that object has seen. */
const seen = (of: BpfObject) => Number(of.getGlobal('seen'));

describe('clsact', () => {
  it('is made and removed once', () => {
    using veth = new VethPair('qdisc');
    expect([createClsact(veth.ifindex), createClsact(veth.ifindex)]).toEqual([true, false]);
    expect([destroyClsact(veth.ifindex), destroyClsact(veth.ifindex)]).toEqual([true, false]);
    expect(bpfError(() => createClsact(ABSENT))).toMatchObject({ code: 'ENODEV' });
  });

  it('runs, replaces and detaches a program', () => {
    using veth = new VethPair('filter');
    createClsact(veth.ifindex);
    const place = { ifindex: veth.ifindex, direction: 'ingress', handle: 1, priority: 10 } as const;
    const program = object.program('count');
    const before = seen(object);

    expect(attachTc(program, place)).toEqual({ ...place, programId: program.id });
    veth.receive();
    expect(seen(object)).toBeGreaterThan(before);
    expect(bpfError(() => attachTc(program, place)).code).toBe('EEXIST');

    const next = attachTc(other.program('count'), { ...place, replace: true });
    expect(next).toEqual({ ...place, programId: other.program('count').id });
    expect(queryTc(place)).toEqual(next);
    expect(queryTc({ ...place, handle: 2 })).toBeUndefined();
    const [old, replaced] = [seen(object), seen(other)];
    veth.receive();
    expect([seen(object), seen(other) > replaced]).toEqual([old, true]);

    expect([detachTc(place), detachTc(place), queryTc(place)]).toEqual([true, false, undefined]);
  });

  it('chooses handle and priority itself', () => {
    using veth = new VethPair('auto');
    createClsact(veth.ifindex);
    const attached = attachTc(object.program('count'), { ifindex: veth.ifindex, direction: 'egress' });
    expect(attached).toMatchObject({ direction: 'egress', programId: object.program('count').id });
    expect([attached.handle > 0, attached.priority > 0]).toEqual([true, true]);
    expect(queryTc(attached)).toEqual(attached);
  });

  it('is told apart from an interface without it, and from no interface', () => {
    using veth = new VethPair('bare');
    const place = { ifindex: veth.ifindex, direction: 'ingress', handle: 1, priority: 10 } as const;
    expect([detachTc(place), queryTc(place)]).toEqual([false, undefined]);
    expect(() => attachTc(object.program('count'), place)).toThrow('bpf_tc_attach (count, interface');
    expect(bpfError(() => queryTc({ ...place, ifindex: ABSENT })).code).toBe('ENODEV');
  });
});

/** TCX is in Linux from 6.6 on; the test says what must hold on either side. */
const [major = 0, minor = 0] = release().split('.').map(Number);
const expected = major > 6 || (major === 6 && minor >= 6);

it(`TCX is ${expected ? '' : 'not '}supported by ${release()}`, () => {
  expect(tcxSupported()).toBe(expected);
});

if (!expected) {
  it('attaching by TCX fails as unsupported', () => {
    using veth = new VethPair('tcx');
    const target = { ifindex: veth.ifindex, direction: 'ingress' } as const;
    expect(bpfError(() => attachTcx(object.program('count'), target))).toMatchObject({
      operation: 'bpf_link_create',
      code: 'EINVAL',
    });
    expect(bpfError(() => tcxProgramIds(veth.ifindex, 'ingress')).code).toBe('EINVAL');
  });
} else {
  describe('TCX', () => {
    const PIN = '/sys/fs/bpf/libbpf-ts-link';

    it('runs a program while its link is open', () => {
      using veth = new VethPair('tcx');
      const target = { ifindex: veth.ifindex, direction: 'ingress' } as const;
      const before = seen(object);
      const link = attachTcx(object.program('count'), target);
      expect(link.info()).toEqual({
        type: 'tcx',
        id: link.id,
        programId: object.program('count').id,
        ifindex: veth.ifindex,
        attachType: 46,
      });
      veth.receive();
      expect(seen(object)).toBeGreaterThan(before);
      link.close();
      link.close();
      expect(tcxProgramIds(veth.ifindex, 'ingress')).toEqual([]);
    });

    it('keeps a pinned link, updates it in place and detaches it', () => {
      using veth = new VethPair('tcxpin');
      const target = { ifindex: veth.ifindex, direction: 'egress' } as const;
      const [first, second] = [object.program('count'), other.program('count')];
      {
        using link = attachTcx(first, target);
        link.pin(PIN);
      }
      expect(tcxProgramIds(veth.ifindex, 'egress')).toEqual([first.id]);
      using link = BpfLink.openPinned(PIN);
      using again = BpfLink.openById(link.id);
      expect(again.info()).toMatchObject({ programId: first.id, attachType: 47 });
      link.update(second, { expected: first });
      expect(bpfError(() => link.update(first, { expected: first })).code).toBe('EPERM');
      expect(tcxProgramIds(veth.ifindex, 'egress')).toEqual([second.id]);
      link.detach();
      expect([tcxProgramIds(veth.ifindex, 'egress'), link.info().ifindex]).toEqual([[], 0]);
      expect(unpin(PIN)).toBe(true);
    });

    it('runs programs in the order of attaching, as far as they let it', () => {
      using veth = new VethPair('tcxtwo');
      const target = { ifindex: veth.ifindex, direction: 'ingress' } as const;
      using _first = attachTcx(object.program('count'), target);
      using _second = attachTcx(other.program('count'), target);
      const ids = [object, other].map((of) => of.program('count').id);
      expect(tcxProgramIds(veth.ifindex, 'ingress')).toEqual(ids);
      const before = seen(other);
      veth.receive();
      // The first one returns -1 (TCX_NEXT) as long as its constant `enabled` is not set.
      expect(seen(other)).toBeGreaterThan(before);
    });

    it('names the interface that is not there', () => {
      const target = { ifindex: ABSENT, direction: 'ingress' } as const;
      expect(bpfError(() => attachTcx(object.program('count'), target)).code).toBe('ENODEV');
      expect(bpfError(() => tcxProgramIds(ABSENT, 'ingress')).code).toBe('ENODEV');
    });
  });
}
