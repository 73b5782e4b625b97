#!/bin/sh
# The first process of a guest: makes what a system's start makes, runs the checks one after another, powers off.
# In: /checks, a line each: number|seconds|threads|program|tests. Out: lines on the serial line, each of ours with a mark.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /var/lib /var/tmp /etc/systemd/system /root
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777,size=60% tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs security /sys/kernel/security 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
[ -e /etc/mtab ] || ln -s /proc/self/mounts /etc/mtab
# The console is ours: what the kernel says would stand in the middle of lines. It is told at the end.
echo 1 >/proc/sys/kernel/printk
ip link set lo up
modprobe -qa loop tun
. /environment
mark=EDGEWARDEN
echo "$mark kernel $(uname -r)"
echo "$mark nft $(nft --version 2>&1)"
while IFS='|' read -r number seconds threads program tests; do
    echo "$mark begin $number"
    {
        # Lists of tests are words, none of which has a blank or a star.
        # shellcheck disable=SC2086
        timeout -k 5 "$seconds" "$program" --exact $tests --test-threads "$threads" --show-output 2>&1 </dev/null
        echo "=end $number $?"
    } | sed -u "s/^/$mark | /"
done </checks
dmesg 2>/dev/null | grep -E 'BUG|WARNING|Oops|Call Trace|blocked for more|Out of memory|oom-kill' | sed "s/^/$mark dmesg /"
echo "$mark done"
sync
echo o >/proc/sysrq-trigger
sleep 10
poweroff -f
