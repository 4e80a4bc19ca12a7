/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one object: every hook shares the maps, so they are compiled together. One file per hook. */
#include "from_overlay.c"
#include "from_pod.c"
#include "from_uplink.c"
#include "to_overlay.c"
#include "to_pod.c"
#include "to_uplink.c"

char _license[] SEC("license") = "Dual BSD/GPL";
