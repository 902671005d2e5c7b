// SPDX-License-Identifier: GPL-2.0-only
/** The hooks in the upstream files: one set for every supported kernel. */

export interface Hook {
  /** Upstream file, relative to the top of the kernel source. */
  readonly file: string;
  /** The function or struct (its first line begins so) that is searched; the whole file if left out. */
  readonly within?: string;
  /** Text that has to stand there exactly once. */
  readonly anchor: string;
  readonly place: 'before' | 'after' | 'instead';
  readonly text: string;
}

const core = 'net/netfilter/ipvs/ip_vs_core.c';
const conn = 'net/netfilter/ipvs/ip_vs_conn.c';
const xmit = 'net/netfilter/ipvs/ip_vs_xmit.c';
const header = 'include/net/ip_vs.h';

/** Own header where the upstream one is included. */
function include(file: string): Hook {
  return { file, anchor: '#include <net/ip_vs.h>\n', place: 'after', text: '#include "ip_vs_bpf.h"\n' };
}

const inHook = { file: core, within: 'ip_vs_in_hook(' };
const outHook = { file: core, within: 'ip_vs_out_hook(' };

/** In the order of the files; `npm run build` writes the result as a patch to build/RELEASE/. */
export const hooks: readonly Hook[] = [
  include(core),
  include(conn),
  include(xmit),
  {
    // At PRE_ROUTING there is no route yet: ip_vs_bpf_request and ip_vs_bpf_reply get it.
    ...inHook,
    anchor: '\t\t     !skb_dst(skb))) {\n',
    place: 'instead',
    text: '\t\t     (!skb_dst(skb) && hooknum != NF_INET_PRE_ROUTING))) {\n',
  },
  {
    ...inHook,
    anchor: 'ip_vs_conn_in_get_proto,\n\t\t\t     ipvs, af, skb, &iph);\n',
    place: 'after',
    text: '\tif (!ip_vs_bpf_request(&cp, skb, state))\n\t\treturn NF_ACCEPT;\n',
  },
  {
    ...inHook,
    anchor: '\tip_vs_in_stats(cp, skb);\n\tip_vs_set_state(cp, IP_VS_DIR_INPUT, skb, pd, iph.len);\n',
    place: 'before',
    text: '\tif (!ip_vs_bpf_session(cp, skb, state))\n\t\treturn NF_ACCEPT;\n',
  },
  {
    ...outHook,
    anchor: '\tif (unlikely(!skb_dst(skb)))\n',
    place: 'instead',
    text: '\tif (unlikely(!skb_dst(skb) && hooknum != NF_INET_PRE_ROUTING))\n',
  },
  {
    ...outHook,
    anchor: 'ip_vs_conn_out_get_proto,\n\t\t\t     ipvs, af, skb, &iph);\n',
    place: 'after',
    text: '\tif (!ip_vs_bpf_reply(cp, skb, state))\n\t\treturn NF_ACCEPT;\n',
  },
  {
    file: core,
    within: 'handle_response(',
    anchor: '\treturn NF_ACCEPT;\n',
    place: 'instead',
    text: '\treturn ip_vs_bpf_reply_verdict(af, skb, hooknum);\n',
  },
  {
    // ip_vs_bpf_take_reply has routed the reply, or kept the route that it remembers.
    file: core,
    within: 'static int ip_vs_route_me_harder(',
    anchor: '\tif (NF_INET_LOCAL_IN == hooknum)\n',
    place: 'instead',
    text: '\tif (NF_INET_LOCAL_IN == hooknum || NF_INET_PRE_ROUTING == hooknum)\n',
  },
  {
    file: core,
    within: 'static int __net_init __ip_vs_init(',
    anchor: '\treturn 0;\n',
    place: 'before',
    text: '\tip_vs_bpf_net_init(ipvs);\n',
  },
  {
    file: core,
    within: 'static void __net_exit __ip_vs_cleanup_batch(',
    anchor: '\t\tip_vs_conn_net_cleanup(ipvs);\n',
    place: 'after',
    text: '\t\tip_vs_bpf_net_cleanup(ipvs);\n',
  },
  {
    file: core,
    within: 'static void __net_exit __ip_vs_dev_cleanup_batch(',
    anchor: '\t\tip_vs_unregister_hooks(ipvs, AF_INET);\n',
    place: 'before',
    text: '\t\tip_vs_bpf_net_unhook(ipvs);\n',
  },
  {
    file: core,
    within: 'static int __init ip_vs_init(',
    anchor: '\tret = ip_vs_control_init();\n',
    place: 'before',
    text: '\tip_vs_bpf_init(ip_vs_in_hook, ip_vs_out_hook);\n',
  },
  {
    file: conn,
    within: 'ip_vs_conn_new(',
    anchor: '\t/* Hash it in the ip_vs_conn_tab finally */\n',
    place: 'before',
    text: '\tip_vs_bpf_conn_init(cp);\n',
  },
  {
    file: conn,
    within: 'static void ip_vs_conn_expire(struct timer_list *t)\n{',
    anchor: '\t\tip_vs_unbind_dest(cp);\n',
    place: 'before',
    text: '\t\tip_vs_bpf_conn_del(cp);\n',
  },
  {
    file: conn,
    within: 'static void ip_vs_conn_expire(struct timer_list *t)\n{',
    anchor: '\t/*\n\t *\tdo I control anybody?\n',
    place: 'before',
    text: '\tif (ip_vs_bpf_postpone(cp))\n\t\treturn;\n\n',
  },
  {
    file: conn,
    within: 'void ip_vs_conn_expire_now(',
    anchor: '\t/* Using mod_timer_pending will ensure the timer is not\n',
    place: 'before',
    text: '\tip_vs_bpf_kill(cp);\n',
  },
  {
    file: xmit,
    within: 'static inline int ip_vs_nat_send_or_cont(',
    anchor: '\tskb->ipvs_property = 1;\n',
    place: 'before',
    text: '\tif (ip_vs_bpf_conn(cp))\n\t\treturn ip_vs_bpf_send_request(skb, cp, local);\n',
  },
  {
    // Behind everything that stock schedulers know, and hidden from the export checksums.
    file: header,
    within: 'struct ip_vs_conn {',
    anchor: '\tstruct rcu_head\t\trcu_head;\n',
    place: 'after',
    text:
      '#ifndef __GENKSYMS__\n' +
      '\tstruct dst_entry\t*bpf_in_dst;\t/* routes of requests, replies */\n' +
      '\tstruct dst_entry\t*bpf_out_dst;\n' +
      '\tunion {\n' +
      '\t\tint\t\tbpf_in_ifindex;\t/* they came in there */\n' +
      '\t\tu32\t\tbpf_out_cookie;\t/* IPv6: of bpf_out_dst */\n' +
      '\t};\n' +
      '\tint\t\t\tbpf_out_ifindex;\n' +
      '\tu32\t\t\tbpf_out_until;\t/* IPv6: jiffies, bpf_out_dst is looked up again */\n' +
      '\tu32\t\t\tbpf_cookie;\t/* 0: no session */\n' +
      '\tu32\t\t\tbpf_service;\t/* id in ipvs_services, flags */\n' +
      '\tu32\t\t\tbpf_until[2];\t/* jiffies: tc forwards, by direction; 0: never has */\n' +
      '\tu32\t\t\tbpf_reply_flow;\t/* index into flows */\n' +
      '\tstruct timer_list\tbpf_timer;\t/* takes over what tc has counted */\n' +
      '\tstruct ipvs_session\t*bpf_session;\t/* in the map, while its cookie is ours; NULL: no more */\n' +
      '#endif\n',
  },
  {
    file: header,
    within: 'struct ip_vs_dest {',
    anchor: '\tunsigned int\t\tin_rs_table:1;\t/* we are in rs_table */\n',
    place: 'after',
    text:
      '#ifndef __GENKSYMS__\n' +
      '\tint\t\t\tbpf_ifindex;\t/* its replies have come in there, valid */\n' +
      '\tint\t\t\tbpf_rp_filter;\t/* with this setting, */\n' +
      '\tint\t\t\tbpf_genid;\t/* at this state of the routes */\n' +
      '\tint\t\t\tbpf_multihomed;\t/* SCTP: it lists further addresses */\n' +
      '#endif\n',
  },
  {
    file: header,
    within: 'struct netns_ipvs {',
    anchor: '\tunsigned int\t\thooks_afmask;\t/* &1=AF_INET, &2=AF_INET6 */\n',
    place: 'after',
    text: '#ifndef __GENKSYMS__\n\tstruct ip_vs_bpf\t*bpf;\n#endif\n',
  },
];

/** @throws Error that names the hook, if its anchor does not stand there exactly once. */
export function applyHook(source: string, hook: Hook): string {
  const start = hook.within === undefined ? 0 : source.indexOf(`\n${hook.within}`);
  if (start < 0) throw new Error(`${hook.file}: nothing begins with ${JSON.stringify(hook.within)}`);
  const end = hook.within === undefined ? source.length : source.indexOf('\n}', start + 1) + 1;
  const body = source.slice(start, end);
  const found = body.split(hook.anchor).length - 1;
  if (found !== 1) {
    throw new Error(
      `${hook.file}: ${JSON.stringify(hook.anchor)} stands ${found} times in ${hook.within ?? 'it'}, not once`,
    );
  }
  const text = { before: hook.text + hook.anchor, after: hook.anchor + hook.text, instead: hook.text };
  return source.slice(0, start) + body.replace(hook.anchor, () => text[hook.place]) + source.slice(end);
}
