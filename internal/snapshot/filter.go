package snapshot

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/config"
)

// Of each file only keys on its list get into a snapshot: what Proxmox adds some day, or an admin by hand, stays out until
// somebody has looked at it. Free text (comments, descriptions, notes) is on no list.
var allowed = map[string][]string{
	"corosync.conf": {
		"algorithm", "bindnetaddr", "clear_node_high_bit", "cluster_name", "config_version", "crypto_cipher", "crypto_hash", "crypto_model", "debug",
		"expected_votes", "host", "interface", "ip_version", "join", "knet_link_priority", "knet_mtu", "knet_ping_interval", "knet_ping_timeout",
		"knet_pong_count", "knet_transport", "link_mode", "linknumber", "model", "name", "netmtu", "nodeid", "port", "provider", "quorum_votes",
		"ring0_addr", "ring1_addr", "ring2_addr", "ring3_addr", "ring4_addr", "ring5_addr", "ring6_addr", "ring7_addr", "secauth", "tls", "to_syslog",
		"token", "token_coefficient", "token_retransmits_before_loss_const", "transport", "two_node", "version", "votes", "wait_for_all", "consensus",
		"last_man_standing", "auto_tie_breaker", "heuristics", "sync_timeout", "timeout", "tie_breaker", "connect_timeout",
	},
	"datacenter.cfg": {
		"bwlimit", "console", "crs", "fencing", "ha", "keyboard", "language", "mac_prefix", "max_workers", "migration", "migration_unsecure", "next-id",
	},
	"ceph.conf": {
		"auth_client_required", "auth_cluster_required", "auth_service_required", "cluster_network", "filestore_xattr_use_omap", "fsid", "host", "keyring",
		"mds_standby_for_name", "mds_standby_replay", "mon_allow_pool_delete", "mon_host", "ms_bind_ipv4", "ms_bind_ipv6", "osd_pool_default_min_size",
		"osd_pool_default_size", "public_addr", "public_network",
	},
	"storage.cfg": {
		"base", "blocksize", "bwlimit", "content", "content-dirs", "create-base-path", "create-subdirs", "data-pool", "datastore", "disable", "domain",
		"export", "fingerprint", "format", "fs-name", "fuse", "is_mountpoint", "iscsiprovider", "krbd", "lun", "max-protected-backups", "mkdir", "monhost",
		"mountpoint", "namespace", "nodes", "options", "path", "pool", "port", "portal", "preallocation", "prune-backups", "saferemove",
		"saferemove_throughput", "server", "server2", "share", "shared", "smbversion", "snapshot-as-volume-chain", "sparse", "subdir", "tagged_only",
		"target", "thinpool", "transport", "username", "vgname", "volume",
	},
	"replication.cfg": {"disable", "rate", "remove_job", "schedule", "source", "target"},
	"jobs.cfg": {
		"all", "bwlimit", "compress", "enabled", "exclude", "fleecing", "ionice", "mailnotification", "mode", "node", "notification-mode", "pool",
		"prune-backups", "protected", "remove", "repeat-missed", "schedule", "storage", "vmid", "zstd",
	},
	"ha/resources.cfg": {"failback", "group", "max_relocate", "max_restart", "state", "type", "auto-rebalance"},
	"ha/groups.cfg":    {"nodes", "nofailback", "restricted", "type"},
	"ha/rules.cfg":     {"affinity", "disable", "nodes", "resources", "strict"},
}

// guestKeys are the options of a guest's config that matter to where it runs, how long it takes to move, and what stops.
var guestKeys = regexp.MustCompile(`^(agent|arch|balloon|bios|boot|cores|cpu|cpulimit|cpuunits|features|freeze|hostname|hotplug|kvm|lock|machine|memory|migrate_downtime|migrate_speed|name|numa|onboot|ostype|parent|protection|runningcpu|runningmachine|scsihw|shares|smbios1|snaptime|sockets|startup|swap|tags|template|unprivileged|vcpus|vga|vmgenid|vmstate|ivshmem|amd-sev|intel-tdx|rootfs|(net|usb|hostpci|serial|parallel|virtiofs|dev|ide|sata|scsi|virtio|unused|mp|efidisk|tpmstate)[0-9]+)$`)

// guestGrep is guestKeys for grep -E on the node, with headers of files and sections.
var guestGrep = "^(==> |[[]|" + strings.TrimSuffix(strings.TrimPrefix(guestKeys.String(), "^"), "$") + ":)"

var (
	// userInfo are credentials in an address: https://user:password@host.
	userInfo = regexp.MustCompile(`://[^/@\s]+@`)
	// telling are parts of option lists that hold a secret or lead to one.
	telling = regexp.MustCompile(`(?i)pass|secret|cred|token|privkey|apikey`)
)

// clean takes credentials out of a value: those in addresses, and those in lists of mount options and the like.
func clean(value string) string {
	value = userInfo.ReplaceAllString(value, "://")
	if !telling.MatchString(value) {
		return value
	}
	parts := slices.DeleteFunc(strings.Split(value, ","), telling.MatchString)
	return strings.Join(parts, ",")
}

// keep reduces a file of /etc/pve to what its list allows.
func keep(name string, text []byte) string {
	keys, known := allowed[name]
	switch {
	case name == "user.cfg":
		return keepPools(string(text))
	case strings.HasPrefix(name, "mapping/"):
		return keepSections(text, []string{"map"})
	case !known:
		return ""
	case name == "corosync.conf":
		return keepBlocks(string(text), keys)
	case name == "ceph.conf":
		return keepSettings(string(text), keys)
	case name == "datacenter.cfg":
		return keepLines(string(text), keys)
	}
	return keepSections(text, keys)
}

func keepSections(text []byte, keys []string) string {
	sections, _ := config.ParseSections(text)
	for i := range sections {
		for key, value := range sections[i].Values {
			if !slices.Contains(keys, key) {
				delete(sections[i].Values, key)
				continue
			}
			sections[i].Values[key] = clean(value)
		}
	}
	return config.FormatSections(sections)
}

// keepBlocks reduces a corosync.conf; its blocks stay, whatever their names.
func keepBlocks(text string, keys []string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimRight(line, "\r\n"), "#")
		bare := strings.TrimSpace(line)
		key, value, isKey := strings.Cut(bare, ":")
		switch {
		case bare == "", bare == "}", strings.HasSuffix(bare, "{"):
			b.WriteString(strings.TrimRight(line, " \t") + "\n")
		case isKey && slices.Contains(keys, strings.TrimSpace(key)):
			b.WriteString(line[:len(line)-len(strings.TrimLeft(line, " \t"))] + strings.TrimSpace(key) + ": " + strings.TrimSpace(value) + "\n")
		}
	}
	return b.String()
}

// keepSettings reduces a ceph.conf.
func keepSettings(text string, keys []string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		bare := strings.TrimSpace(line)
		key, value, isKey := strings.Cut(bare, "=")
		key = strings.NewReplacer(" ", "_", "-", "_").Replace(strings.TrimSpace(key))
		switch {
		case strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]"):
			b.WriteString(bare + "\n")
		case isKey && slices.Contains(keys, key):
			b.WriteString("\t" + key + " = " + clean(strings.TrimSpace(value)) + "\n")
		}
	}
	return b.String()
}

func keepLines(text string, keys []string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && slices.Contains(keys, key) {
			b.WriteString(key + ": " + clean(strings.TrimSpace(value)) + "\n")
		}
	}
	return b.String()
}

// keepPools leaves of user.cfg the members of the resource pools.
func keepPools(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= 4 && f[0] == "pool" {
			b.WriteString("pool:" + f[1] + "::" + f[3] + "::\n")
		}
	}
	return b.String()
}

// keepConfig reduces a guest's config. Pending changes are left out: they concern the guest's next start.
func keepConfig(text string) string {
	var b strings.Builder
	skip := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			name := strings.Trim(line, "[]")
			if skip = strings.EqualFold(name, "pending") || strings.Contains(name, ":"); !skip {
				b.WriteString("\n" + line + "\n")
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if ok && !skip && guestKeys.MatchString(key) {
			b.WriteString(key + ": " + clean(strings.TrimSpace(value)) + "\n")
		}
	}
	return b.String()
}

// keepSource reduces a file of apt's sources: comments go, and credentials in addresses.
func keepSource(text string) string {
	var b strings.Builder
	key := false // a key block in the file itself
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if key = key && strings.HasPrefix(line, " "); key || strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "signed-by") && strings.TrimSpace(value) == "" {
			key = true
			continue
		}
		b.WriteString(userInfo.ReplaceAllString(line, "://") + "\n")
	}
	return strings.TrimLeft(b.String(), "\n")
}
