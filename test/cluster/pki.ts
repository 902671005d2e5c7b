// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from '../../scripts/exec.ts';
import { addresses, addresses6 } from './layout.ts';

const days = '3650';

/**
 * Keys and certificates of a cluster, made by openssl in the directory if it is not there:
 * ca, apiserver (its server side), kubelet-client (its side towards kubelets), sa (service accounts' tokens).
 */
export async function ensurePki(directory: string): Promise<void> {
  if (existsSync(directory)) return;
  await mkdir(dirname(directory), { recursive: true });
  const temporary = await mkdtemp(`${directory}.new-`);
  try {
    await makeCa(temporary);
    await makeCertificate(temporary, 'apiserver', '/CN=kube-apiserver', serverExtensions());
    // A member of system:masters may do everything from the first moment: a kubelet that asks the
    // API server before some role binding exists would remember the denial for half a minute.
    const subject = '/O=system:masters/CN=kube-apiserver';
    await makeCertificate(temporary, 'kubelet-client', subject, 'extendedKeyUsage=clientAuth\n');
    await makeKey(temporary, 'sa');
    await openssl(temporary, ['pkey', '-in', 'sa.key', '-pubout', '-out', 'sa.pub']);
    await rename(temporary, directory);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Under these names the API server is reached. */
export function serverExtensions(): string {
  const names = [
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
  ];
  const dns = [...names, 'localhost'].map((name) => `DNS:${name}`);
  const own = [addresses, addresses6].flatMap((each) => [each.controlPlane, each.kubernetesService]);
  const ips = [...own, '127.0.0.1'].map((ip) => `IP:${ip}`);
  return `extendedKeyUsage=serverAuth\nsubjectAltName=${[...dns, ...ips].join(',')}\n`;
}

function openssl(cwd: string, args: readonly string[]): Promise<string> {
  return run('openssl', args, { cwd });
}

async function makeKey(cwd: string, name: string): Promise<void> {
  await openssl(cwd, [
    'genpkey',
    '-algorithm',
    'EC',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-out',
    `${name}.key`,
  ]);
}

async function makeCa(cwd: string): Promise<void> {
  await makeKey(cwd, 'ca');
  const subject = ['-subj', '/CN=ipvs-bpf-cluster'];
  await openssl(cwd, ['req', '-x509', '-new', '-key', 'ca.key', '-days', days, ...subject, '-out', 'ca.crt']);
}

async function makeCertificate(
  cwd: string,
  name: string,
  subject: string,
  extensions: string,
): Promise<void> {
  await makeKey(cwd, name);
  await writeFile(join(cwd, `${name}.ext`), extensions);
  await openssl(cwd, ['req', '-new', '-key', `${name}.key`, '-subj', subject, '-out', `${name}.csr`]);
  const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'];
  const files = ['-in', `${name}.csr`, '-extfile', `${name}.ext`, '-out', `${name}.crt`];
  await openssl(cwd, ['x509', '-req', ...files, ...signer, '-days', days]);
}
