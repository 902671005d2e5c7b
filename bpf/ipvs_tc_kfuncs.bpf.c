// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The same programs, which tell the module ip_vs what they see of connections: see lib/kfuncs.h. */
#define IPVS_KFUNCS
#include "ipvs_tc.bpf.c"
