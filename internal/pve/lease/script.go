package lease

import (
	"strconv"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// script does one step on one host. Arguments: what to do (take, keep, drop), the run, the seconds a lease lasts, the
// mount point of pmxcfs, the folder for local files. Standard input: the owner as one line of JSON.
//
// It answers with lines: "local ok", "cluster ok"; "cluster away" while pmxcfs cannot be written; "cluster none" on a
// host without a cluster; "local held" or "cluster held" followed by the file of whoever has it; "… busy" when the
// guard stayed taken.
//
// A lease file is read, judged and written under a guard. In pmxcfs that is a lock directory as Proxmox itself uses
// them: made atomically over the cluster, expiring after 120 s without a holder. Such a lock knows nodes, not
// controllers, which is why it only guards the file that does. Local guards are directories that carry a time slot in
// their name: a guard whose holder was killed is out of date two slots later, and is never taken away from anyone. The
// slot before and the one after are looked at too, since two contenders may stand on different sides of the turn.
//
// Programs cost a busy host more than the tasks that the lease is for, so the script does with the shell what it can.
//
// Everybody may make folders below /run/lock. One that somebody else made is not used: its owner could put links where
// root writes.
const script = `# take, keep or drop the lease
verb=$1 run=$2 ttl=$3 pve=$4 dir=$5
trap '' HUP 2>/dev/null
IFS= read -r owner || [ -n "$owner" ]
umask 022

# fields: whose lease it is and when it ends, in r and e
fields() {
	while IFS= read -r line; do
		case $line in
		'"expires": '*,) e=${line#*: } e=${e%,};;
		'"run": "'*'",') r=${line#*: \"} r=${r%\",};;
		esac
	done
}

# judge FILE: at the time now, its state is free, mine, fresh (mine, and long to go) or held
judge() {
	r='' e='' state=held
	[ -e "$1" ] || { state=free; return 0; }
	{ fields <"$1"; } 2>/dev/null
	case $e in
	''|*[!0-9]*) if [ ! -e "$1" ]; then state=free; fi;;
	*)
		if [ "$r" = "$run" ]; then
			if [ $((e - now)) -gt $((ttl * 5 / 6)) ]; then state=fresh; else state=mine; fi
		elif [ "$e" -le "$now" ]; then state=free
		fi;;
	esac
}

write() {
	printf '{\n"expires": %s,\n"run": "%s",\n"owner": %s\n}\n' "$((now + ttl))" "$run" "$owner" >"$1.$run" && mv "$1.$run" "$1"
}

# act FILE NAME: what the guard guards, at the time now
act() {
	judge "$1"
	case $verb.$state in
	drop.mine|drop.fresh) rm -f "$1" && echo "$2 ok";;
	drop.*) echo "$2 ok";;
	*.held) echo "$2 held"; cat "$1";;
	*) if write "$1" 2>/dev/null; then echo "$2 ok"; else rm -f "$1.$run" 2>/dev/null; echo "$2 away"; fi;;
	esac
}

enter_local() {
	now=$(date +%s)
	end=$((now + 30)) # by the clock, which a left-over guard runs out by
	while [ "$now" -lt "$end" ]; do
		k=$((now / 10))
		if mkdir "$dir/guard.$k" 2>/dev/null; then
			if [ ! -e "$dir/guard.$((k - 1))" ] && [ ! -e "$dir/guard.$((k + 1))" ]; then guard=$dir/guard.$k; return 0; fi
			rmdir "$dir/guard.$k"
		elif [ ! -d "$dir" ]; then return 1
		fi
		sleep 0.1
		now=$(date +%s)
	done
	return 1
}

enter_cluster() {
	mkdir -p "$pve/priv/lock" 2>/dev/null
	guard=$pve/priv/lock/pxrun n=0 missing=0
	while [ $n -lt 200 ]; do
		mkdir "$guard" 2>/dev/null && return 0
		if [ -d "$guard" ]; then
			touch -c -d @0 "$guard" 2>/dev/null
		elif mkdir "$guard.$run.$$" 2>/dev/null; then
			rmdir "$guard.$run.$$" # it can be written: the guard was given back between the two looks
		else
			missing=$((missing + 1))
			[ $missing -ge 5 ] && return 2
		fi
		n=$((n + 1)); sleep 0.1
	done
	return 1
}

[ -d "$dir" ] || mkdir -p "$dir" 2>/dev/null
if [ -L "$dir" ] || [ ! -O "$dir" ]; then
	if [ "$verb" = drop ]; then echo "local ok"; else echo "local away"; fi
elif enter_local; then
	act "$dir/lease.json" local
	rmdir "$guard"
	if [ "$verb" = drop ] && [ ! -O / ]; then rmdir "$dir" 2>/dev/null; fi # else it would keep root out
else
	echo "local busy"
fi

file=$pve/priv/pxrun-lease.json
if [ ! -e "$pve/corosync.conf" ]; then
	echo "cluster none"
	exit 0
fi
now=$(date +%s)
judge "$file"
case $verb.$state in
drop.free|drop.held|take.fresh|keep.fresh) echo "cluster ok"; exit 0;;
take.held|keep.held) echo "cluster held"; cat "$file"; exit 0;;
esac
enter_cluster
case $? in
0) now=$(date +%s); act "$file" cluster; rmdir "$guard";;
2) echo "cluster away";;
*) echo "cluster busy";;
esac
exit 0
`

// stepTimeout bounds one step on one host: longer than the guard is waited for.
const stepTimeout = 60 * time.Second

func (l *Locker) command(verb, run string, owner []byte) transport.Command {
	return transport.Command{
		Script:  script,
		Argv:    []string{verb, run, strconv.Itoa(int(l.cfg.TTL / time.Second)), l.cfg.Pmxcfs, l.cfg.Local},
		Stdin:   owner,
		Mutates: true,
		Timeout: stepTimeout,
	}
}
