// SPDX-License-Identifier: Apache-2.0
/** Generic netlink families by name. Never by the request that lets the kernel load a module. */
import { HostError } from '../core/errors.ts';
import {
  attributes,
  NETLINK_GENERIC,
  type NetlinkRequest,
  NetlinkSocket,
  NLM_F_DUMP,
  stringOf,
} from './netlink-socket.ts';

const GENL_ID_CTRL = 16;
const GENL_HEADER_BYTES = 4;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_VERSION = 2;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;

export interface GenericRequest {
  readonly action: string;
  readonly command: number;
  readonly flags?: number;
  /** Attributes, encoded. */
  readonly data?: readonly Uint8Array[];
}

/** As those of NetlinkSocket, without what is the family's. */
export interface GenericRequests {
  request(request: GenericRequest): Promise<readonly Buffer[]>;
  requestAll(requests: readonly GenericRequest[]): Promise<readonly (HostError | undefined)[]>;
}

function header(command: number, version: number): Uint8Array {
  return Uint8Array.of(command, version, 0, 0);
}

export class GenericFamily {
  readonly #socket = new NetlinkSocket(NETLINK_GENERIC);
  readonly #name: string;
  readonly #version: number;

  constructor(name: string, version: number) {
    this.#name = name;
    this.#version = version;
  }

  /**
   * The family's id now, or undefined. It is looked up in the list of all families: asking by name
   * makes the kernel load the module that has it. A module that is loaded again gets another id.
   */
  async id(): Promise<number | undefined> {
    const messages = await this.#socket.request({
      action: 'list generic netlink families',
      type: GENL_ID_CTRL,
      flags: NLM_F_DUMP,
      data: header(CTRL_CMD_GETFAMILY, CTRL_VERSION),
    });
    for (const message of messages) {
      const found = attributes(message.subarray(GENL_HEADER_BYTES));
      const name = found.get(CTRL_ATTR_FAMILY_NAME);
      if (name !== undefined && stringOf(name) === this.#name)
        return found.get(CTRL_ATTR_FAMILY_ID)?.readUInt16LE(0);
    }
    return undefined;
  }

  /** Looks the family up and lets `act` make requests to it. Throws HostError NotFound without the family. */
  async use<T>(act: (requests: GenericRequests) => Promise<T>): Promise<T> {
    const id = await this.id();
    if (id === undefined) {
      throw new HostError(`${this.#name}: no generic netlink family of this name`, {
        code: 'NotFound',
        errno: 'ENOENT',
        advice: 'Load the kernel module that provides it.',
      });
    }
    return act({
      request: async (request) => {
        const messages = await this.#socket.request(this.#encode(id, request));
        return messages.map((message) => message.subarray(GENL_HEADER_BYTES));
      },
      requestAll: (requests) => this.#socket.requestAll(requests.map((each) => this.#encode(id, each))),
    });
  }

  async close(): Promise<void> {
    await this.#socket.close();
  }

  #encode(id: number, request: GenericRequest): NetlinkRequest {
    return {
      action: `${this.#name}: ${request.action}`,
      type: id,
      ...(request.flags === undefined ? {} : { flags: request.flags }),
      data: Buffer.concat([header(request.command, this.#version), ...(request.data ?? [])]),
    };
  }
}
