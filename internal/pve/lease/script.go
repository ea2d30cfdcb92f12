package lease

import (
	"strconv"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// script does one step on one host. Arguments: what to do (take, claim, keep, leave, drop), the run, the seconds a lease
// lasts, the mount point of pmxcfs, the folder for local files, the host's name, the owner as one line of JSON. claim
// and leave are take and drop of the local lease alone; look tells who else has a lease, and writes nothing.
//
// It answers with lines: "boot ID" with the id of the host's boot; "local ok", "cluster ok", or "new" in place of "ok" when there was no
// lease of this run; "cluster away" while pmxcfs cannot be written; "cluster none" on a
// host without a cluster; "cluster later" where claim and leave left out a cluster; "local held LEFT" or "cluster held
// LEFT" with the seconds that the lease has to go, followed by the file of whoever has it; "… busy" when the guard stayed
// taken.
//
// The local lease is a file that the shell makes itself, with O_EXCL: of many that try, one makes it. Its clock is the
// host's uptime, which nobody sets, together with the id of the boot: a lease of an earlier boot is over. Nobody but its
// run touches a lease before its end. The run itself renews and removes it freely while a quarter of it is left; later
// than that, and for a lease that has ended, it is judged again and written under a guard. So none of this hangs on how
// long a program takes, unless that is half a minute.
//
// A file without content is about to be written, or was left by a shell that was killed in between. It is given a sixth
// of the lease's time. Whoever makes the file and took long looks at it again, lest that time had passed.
//
// In pmxcfs a lease is always written under a guard: a lock directory as Proxmox itself uses them, made atomically over
// the cluster, expiring after 120 s without a holder. Such a lock knows nodes, not controllers, which is why it only
// guards the file that does. Its time is the nodes' clock, for their uptimes have nothing in common. Local guards are
// directories that carry a time slot in their name: a guard whose holder was killed is out of date two slots later, and
// is never taken away from anyone. The slot before and the one after are looked at too, since two contenders may stand
// on different sides of the turn.
//
// Programs cost a busy host more than the tasks that the lease is for, so on a host without a cluster taking a free lease
// starts none and giving it back starts one. For the same reason the script must not say the shell's own process id: it
// would be run by a shell of its own.
//
// A connection that is cut takes neither guard nor lease into limbo: the script ignores the signals that come of it.
//
// Everybody may make folders below /run/lock. One that somebody else made is not used: its owner could put links where
// root writes.
const script = `# take, claim, keep, leave, drop or look at the lease
verb=$1 run=$2 ttl=$3 pve=$4 dir=$5 host=$6 owner=$7
trap '' HUP PIPE 2>/dev/null
umask 022
margin=$((ttl / 4)) patience=$((ttl / 6)) boot=none
{ read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
case $verb in leave|drop) does=drop;; look) does=look;; *) does=take;; esac

# clock: now, in seconds
clock() {
	if [ "$place" = cluster ]; then now=$(date +%s); return; fi
	{ read -r now idle </proc/uptime; } 2>/dev/null || now=$(date +%s)
	now=${now%%.*}
}

# fields: whose lease it is, when it ends and in which boot, in r, e and b
fields() {
	while IFS= read -r line; do
		case $line in
		'"expires": '*,) e=${line#*: } e=${e%,};;
		'"run": "'*'",') r=${line#*: \"} r=${r%\",};;
		'"boot": "'*'",') b=${line#*: \"} b=${b%\",}; return;; # the shell reads byte by byte
		esac
	done
}

# judge: at the time now, the state of the file is free, empty, mine, stale (at its end) or held
judge() {
	r='' e='' b='' left='' state=held
	if [ ! -e "$file" ]; then state=free; return; fi
	{ fields <"$file"; } 2>/dev/null
	case $e in
	''|*[!0-9]*)
		if [ ! -e "$file" ]; then state=free
		elif [ ! -s "$file" ]; then state=empty
		fi;;
	*)
		left=$((e - now))
		if [ "$place" = local ] && [ "$b" != "$boot" ]; then state=stale
		elif [ "$r" = "$run" ]; then state=mine
		elif [ "$left" -le 0 ]; then state=stale
		fi;;
	esac
}

text() { printf '{\n"expires": %s,\n"run": "%s",\n"boot": "%s",\n"owner": %s\n}\n' "$((now + ttl))" "$run" "$boot" "$owner"; }
answer() { echo "$place $1"; said=$1; }
held() { answer "held $left"; cat "$file"; }

# create: make the file, or fail if there is one
create() {
	wrote=''
	set -C
	{ { wrote=no; text && wrote=yes; } >"$file"; } 2>/dev/null
	set +C
	if [ "$wrote" = no ]; then rm -f "$file"; fi # it is full
	[ "$wrote" = yes ] || return 1
	began=$now
	clock
	[ $((now - began)) -ge $((patience / 2)) ] || return 0 # nobody takes an empty file for left over that soon
	judge
	[ "$state" = mine ]
}

# replace: write the file that is there anew
replace() {
	{ text >"$file.$run"; } 2>/dev/null && mv "$file.$run" "$file" 2>/dev/null && return 0
	rm -f "$file.$run" 2>/dev/null
	return 1
}

enter_local() {
	end=$((now + 30)) # by the clock, which a left-over guard runs out by
	while [ "$now" -lt "$end" ]; do
		k=$((now / 10))
		if mkdir "$dir/guard.$boot.$k" 2>/dev/null; then
			guard=$dir/guard.$boot.$k
			if [ ! -e "$dir/guard.$boot.$((k - 1))" ] && [ ! -e "$dir/guard.$boot.$((k + 1))" ]; then return 0; fi
			rmdir "$guard"
		elif [ ! -d "$dir" ]; then return 1
		fi
		sleep 0.1
		clock
	done
	return 1
}

# guarded: judge again and do it; 1 if it has to be looked at again
guarded() {
	enter_local || { answer busy; return 0; }
	clock
	judge
	did=away
	case $does.$state in
	drop.mine) rm -f "$file" && did=ok;;
	drop.*) did=ok;;
	take.mine) if replace; then did=ok; fi;;
	take.stale) rm -f "$file"; if create; then did=new; else did=again; fi;;
	take.empty)
		did=again
		if [ -n "$waited" ] && [ "$waited" -le "$now" ]; then rm -f "$file"; if create; then did=new; fi; fi;;
	*) did=again;;
	esac
	rmdir "$guard"
	[ "$did" != again ] || return 1
	answer $did
}

local_lease() {
	place=local file=$dir/lease.json n=0 waited=''
	while [ $n -lt 300 ]; do
		n=$((n + 1))
		clock
		judge
		[ "$state" = empty ] || waited=''
		case $does.$state in
		drop.mine)
			if [ "$left" -gt "$margin" ]; then
				if rm -f "$file"; then answer ok; else answer away; fi
				return
			fi;;
		drop.*) answer ok; return;;
		take.held|look.held) held; return;;
		look.*) answer ok; return;;
		take.free)
			if create; then answer new; return; fi
			if [ ! -e "$file" ] && [ $n -gt 5 ]; then answer away; return; fi
			continue;;
		take.mine)
			if [ "$left" -gt "$margin" ]; then
				if replace; then answer ok; else answer away; fi
				return
			fi;;
		take.empty)
			if [ -z "$waited" ]; then waited=$((now + patience)); fi
			if [ "$now" -lt "$waited" ]; then sleep 0.1; continue; fi;;
		esac
		guarded && return
	done
	answer busy
}

enter_cluster() {
	mkdir -p "$pve/priv/lock" 2>/dev/null
	guard=$pve/priv/lock/pxrun n=0 missing=0
	while [ $n -lt 200 ]; do
		mkdir "$guard" 2>/dev/null && return 0
		if [ -d "$guard" ]; then
			touch -c -d @0 "$guard" 2>/dev/null
		elif mkdir "$guard.$run.$host" 2>/dev/null; then
			rmdir "$guard.$run.$host" # it can be written: the guard was given back between the two looks
		else
			missing=$((missing + 1))
			[ $missing -ge 5 ] && return 2
		fi
		n=$((n + 1)); sleep 0.1
	done
	return 1
}

cluster_lease() {
	place=cluster file=$pve/priv/pxrun-lease.json
	clock
	judge
	case $does.$state in
	drop.mine) ;;
	drop.*) answer ok; return;;
	take.held|take.empty|look.held|look.empty) held; return;;
	look.*) answer ok; return;;
	take.mine) if [ "$left" -gt $((ttl * 5 / 6)) ]; then answer ok; return; fi;;
	esac
	enter_cluster
	case $? in
	1) answer busy; return;;
	2) answer away; return;;
	esac
	clock
	judge
	case $does.$state in
	drop.mine) if rm -f "$file"; then did=ok; else did=away; fi;;
	drop.*) did=ok;;
	take.held|take.empty) did=held;;
	take.mine) if replace; then did=ok; else did=away; fi;;
	*) if replace; then did=new; else did=away; fi;;
	esac
	rmdir "$guard"
	if [ $did = held ]; then held; else answer $did; fi
}

echo "boot $boot"
[ $does = look ] || [ -d "$dir" ] || mkdir -p "$dir" 2>/dev/null
if [ -L "$dir" ] || [ ! -O "$dir" ]; then
	if [ $does != take ]; then echo "local ok"; else echo "local away"; fi
else
	local_lease
	if [ $does = drop ] && [ ! -O / ]; then rmdir "$dir" 2>/dev/null; fi # else it would keep root out
	case $verb.$said in # whoever is refused here must not keep others out of the cluster
	take.ok|take.new|claim.ok|claim.new) ;;
	take.*|claim.*|keep.held*) exit 0;;
	esac
fi
if [ ! -e "$pve/corosync.conf" ]; then echo "cluster none"
elif [ "$verb" = claim ] || [ "$verb" = leave ]; then echo "cluster later"
else cluster_lease
fi
exit 0
`

// stepTimeout bounds one step on one host: longer than the guard is waited for.
const stepTimeout = 60 * time.Second

func (l *Locker) command(verb, host, run string, owner []byte) transport.Command {
	return transport.Command{
		Script:  script,
		Argv:    []string{verb, run, strconv.Itoa(int(l.cfg.TTL / time.Second)), l.cfg.Pmxcfs, l.cfg.Local, host, string(owner)},
		Mutates: verb != "look",
		Timeout: stepTimeout,
	}
}
