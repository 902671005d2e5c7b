// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';

interface Kubeconfig {
  readonly clusters: readonly [
    { readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } },
  ];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** The few questions that the harness itself has to the API server. */
export class ApiClient {
  readonly #server: string;
  readonly #ca: Buffer;
  readonly #token: string;

  private constructor(config: Kubeconfig) {
    const { cluster } = config.clusters[0];
    this.#server = cluster.server;
    this.#ca = Buffer.from(cluster['certificate-authority-data'], 'base64');
    this.#token = config.users[0].user.token;
  }

  /** @param file a kubeconfig that this harness wrote */
  static async of(file: string): Promise<ApiClient> {
    return new ApiClient(JSON.parse(await readFile(file, 'utf8')) as Kubeconfig);
  }

  /** Whether the server is there and says that it is ready. */
  async isReady(): Promise<boolean> {
    return (await this.#get('/readyz').catch(() => undefined))?.status === 200;
  }

  async exists(path: string): Promise<boolean> {
    return (await this.#get(path)).status === 200;
  }

  /** @throws Error when the answer is not 200 */
  async read(path: string): Promise<unknown> {
    const { status, body } = await this.#get(path);
    if (status !== 200) throw new Error(`${path}: HTTP status ${status}: ${body}`);
    return JSON.parse(body);
  }

  #get(path: string): Promise<Answer> {
    const headers = { authorization: `Bearer ${this.#token}` };
    return new Promise((resolve, reject) => {
      const call = request(
        `${this.#server}${path}`,
        { ca: this.#ca, headers, timeout: 10_000 },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
          );
        },
      );
      call.on('timeout', () => call.destroy(new Error(`${path}: no answer within 10 s`)));
      call.on('error', reject);
      call.end();
    });
  }
}
