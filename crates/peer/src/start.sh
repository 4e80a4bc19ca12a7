# start DIRECTORY GROUP NAME: becomes a host. Says "ready" when it is one.
set -e
directory=$1 group=$2 name=$3
# Control groups of its own, of every controller, of either version.
for tree in /sys/fs/cgroup /sys/fs/cgroup/*; do
	[ -w "$tree/cgroup.procs" ] || continue
	mkdir -p "$tree/$group"
	for file in cpuset.cpus cpuset.mems; do
		[ ! -f "$tree/$group/$file" ] || [ -n "$(cat "$tree/$group/$file")" ] || cat "$tree/$file" >"$tree/$group/$file"
	done
	echo $$ >"$tree/$group/cgroup.procs"
done
mkdir -p "$directory/upper" "$directory/work" "$directory/root" "$directory/data"
export directory name
exec unshare --mount --uts --net --pid --cgroup --ipc --fork --kill-child --propagation private sh -ec '
	root=$directory/root
	mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs tmpfs "$root/run"
	mount -t tmpfs tmpfs "$root/tmp"
	mount -t sysfs sysfs "$root/sys"
	mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
	awk -F: "\$2 != \"\" {print \$2}" /proc/self/cgroup | while read -r controllers; do
		place=$root/sys/fs/cgroup/${controllers#name=}
		mkdir -p "$place"
		mount -t cgroup -o "$(case $controllers in name=*) echo none,;; esac)$controllers" cgroup "$place"
	done
	if awk -F: "\$2 == \"\" {exit 1}" /proc/self/cgroup; then :
	elif [ -f /sys/fs/cgroup/cgroup.controllers ]; then mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	else mkdir "$root/sys/fs/cgroup/unified"; mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
	fi
	# Not on the overlay: these hold overlays and mounts themselves, or sync a lot.
	for place in /var/lib/kubelet /var/lib/containerd /var/lib/etcd /var/lib/malha; do
		mkdir -p "$directory/data$place" "$root$place"
		mount --bind "$directory/data$place" "$root$place"
	done
	rm -rf "$root/etc/kubernetes" "$root/etc/cni/net.d" "$root/etc/containerd"
	mkdir -p "$root/etc/default" "$root/etc/cni/net.d" "$root/run/lock"
	: >"$root/etc/default/kubelet"
	printf "%s" "$HOSTS" >"$root/etc/hosts"
	hostname "$name"
	cd "$root"
	mkdir -p old
	pivot_root . old
	umount -l /old
	sysctl -qw net.ipv4.ip_forward=1
	echo ready
	# PID 1 has to reap, else ended processes stay.
	sleep infinity & while :; do wait; done' >&1
