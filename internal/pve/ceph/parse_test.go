package ceph_test

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/stretchr/testify/require"
)

// conf is a file as pveceph init and three monitors leave it.
const conf = `[global]
	auth_client_required = cephx
	cluster_network = 10.2.0.0/24
	fsid = 6f1c0f3e-0a5c-4e4b-8a53-5b7a6f0f0a01
	mon_allow_pool_delete = true
	mon_host =  10.1.0.1 10.1.0.2 10.1.0.3
	ms_bind_ipv4 = true
	osd_pool_default_min_size = 2
	osd_pool_default_size = 3
	public_network = 10.1.0.0/24

[client]
	keyring = /etc/pve/priv/$cluster.$name.keyring

[mds.pve1]
	host = pve1

[mon.pve1]
	public_addr = 10.1.0.1

[mon.pve2]
	public_addr = 10.1.0.2
`

func TestConf(t *testing.T) {
	c := ceph.ParseConf([]byte(conf))
	require.True(t, c.Inited())
	require.Equal(t, "10.1.0.0/24", c.PublicNetwork)
	require.Equal(t, "10.2.0.0/24", c.ClusterNetwork)
	require.Equal(t, []string{"10.1.0.1", "10.1.0.2", "10.1.0.3"}, c.MonHosts)
	require.Equal(t, []string{"pve1", "pve2"}, c.Daemons("mon"))
	require.True(t, c.Has("mds", "pve1"))
	require.False(t, c.Has("mon", "pve3"))
	require.Equal(t, 3, c.Size)
	require.Equal(t, 2, c.MinSize)
}

func TestConfAsPeopleWriteIt(t *testing.T) {
	c := ceph.ParseConf([]byte("# by hand\n[global]\nfsid=x ; really\npublic network = 10.1.0.0/24, 10.9.0.0/24\nmon-host = a,b\n[mon.a]\n"))
	require.Equal(t, "x", c.FSID)
	require.Equal(t, "10.1.0.0/24, 10.9.0.0/24", c.PublicNetwork)
	require.Equal(t, []string{"a", "b"}, c.MonHosts)
	require.Equal(t, []string{"a"}, c.Daemons("mon"))
	var none *ceph.Conf
	require.False(t, none.Inited())
	require.Empty(t, none.Daemons("mon"))
}

func TestRepository(t *testing.T) {
	const sources, list = "/etc/apt/sources.list.d/ceph.sources", "/etc/apt/sources.list.d/ceph.list"
	enterprise := "Types: deb\nURIs: https://enterprise.proxmox.com/debian/ceph-squid\nSuites: trixie\nComponents: enterprise\n"
	free := "Types: deb\nURIs: http://download.proxmox.com/debian/ceph-squid\nSuites: trixie\nComponents: no-subscription\n"
	for _, tt := range []struct{ path, text, want string }{
		{sources, free, "no-subscription"},
		{sources, enterprise, "enterprise"},
		{sources, enterprise + "Enabled: false\n\n" + free, "no-subscription"},
		{list, "deb http://download.proxmox.com/debian/ceph-reef bookworm test\n", "test"},
		{list, "# deb http://download.proxmox.com/debian/ceph-reef bookworm enterprise\n", ""},
		{list, "", ""},
	} {
		require.Equal(t, tt.want, ceph.RepositoryOf(pve.SourceFiles{tt.path: tt.text}), tt.text)
	}
}

func TestReleases(t *testing.T) {
	for version, want := range map[string]string{"17.2.7-pve3": "quincy", "18.2.4-pve1": "reef", "19.2.3-pve2": "squid", "20.2.0-pve1": "tentacle", "16.2.1": "", "": ""} {
		require.Equal(t, want, ceph.ReleaseOf(version), version)
	}
	require.Contains(t, ceph.Offered(8), ceph.DefaultRelease)
	require.Contains(t, ceph.Offered(9), ceph.DefaultRelease)
	require.NotContains(t, ceph.Offered(9), "reef")
	require.Empty(t, ceph.Offered(0))
}

// healthy is the shape of the reference's sample.
const healthy = `{"fsid":"6f1c","health":{"status":"HEALTH_WARN","checks":{"OSDMAP_FLAGS":{"severity":"HEALTH_WARN","summary":{"message":"noout flag(s) set","count":1},"muted":false},"RECENT_CRASH":{"severity":"HEALTH_WARN","summary":{"message":"1 daemons have recently crashed","count":1},"muted":true}},"mutes":[]},"election_epoch":24,"quorum":[0,1,2],"quorum_names":["pve1","pve2","pve3"],"quorum_age":8000,"monmap":{"epoch":3,"min_mon_release_name":"squid","num_mons":3},"osdmap":{"epoch":120,"num_osds":6,"num_up_osds":6,"osd_up_since":1,"num_in_osds":6,"osd_in_since":1,"num_remapped_pgs":0},"pgmap":{"pgs_by_state":[{"state_name":"active+clean","count":128},{"state_name":"active+clean+scrubbing+deep","count":1}],"num_pgs":129,"num_pools":3,"num_objects":900,"data_bytes":1,"bytes_used":3,"bytes_avail":9,"bytes_total":12},"fsmap":{"epoch":1,"by_rank":[{"filesystem_id":1,"rank":0,"name":"pve1","status":"up:active","gid":4}],"up:standby":1},"mgrmap":{"available":true,"num_standbys":2,"modules":["restful"],"services":{}},"servicemap":{"epoch":1,"services":{}},"progress_events":{}}`

func TestStatus(t *testing.T) {
	s, err := ceph.ParseStatus([]byte(healthy))
	require.NoError(t, err)
	require.Equal(t, []string{"OSDMAP_FLAGS: noout flag(s) set"}, s.Complaints(), "muted ones are left out")
	require.True(t, s.InQuorum("pve3"))
	require.False(t, s.InQuorum("pve4"))
	require.Equal(t, 3, s.MonMap.NumMons)
	require.Equal(t, 1, s.FS.Standby)
	require.Empty(t, s.Clean())
	require.Empty(t, s.Serving())
	var none *ceph.Status
	require.False(t, none.InQuorum("pve1"))
}

func TestClean(t *testing.T) {
	tests := []struct {
		states         string
		total          int
		clean, serving string
	}{
		{`{"state_name":"active+clean","count":4}`, 4, "", ""},
		{`{"state_name":"active+clean+scrubbing","count":4}`, 4, "", ""},
		{``, 0, "", ""},
		{`{"state_name":"active+clean","count":3}`, 4, "3 of 4 placement groups have a state", "3 of 4 placement groups are active: 3 active+clean"},
		{`{"state_name":"active+undersized+degraded","count":4}`, 4, "placement groups: 4 active+undersized+degraded", ""},
		{`{"state_name":"undersized+degraded+peered","count":4}`, 4, "placement groups: 4 undersized+degraded+peered", "0 of 4 placement groups are active: 4 undersized+degraded+peered"},
		{`{"state_name":"active+clean+snaptrim","count":4}`, 4, "placement groups: 4 active+clean+snaptrim", ""},
		{`{"state_name":"inactive","count":1}`, 1, "placement groups: 1 inactive", "0 of 1 placement groups are active: 1 inactive"},
	}
	for _, tt := range tests {
		s, err := ceph.ParseStatus([]byte(`{"health":{"status":"HEALTH_OK"},"pgmap":{"pgs_by_state":[` + tt.states + `],"num_pgs":` + string(rune('0'+tt.total)) + `}}`))
		require.NoError(t, err)
		require.Equal(t, tt.clean, s.Clean(), tt.states)
		require.Equal(t, tt.serving, s.Serving(), tt.states)
	}
	_, err := ceph.ParseStatus([]byte(`{}`))
	require.Error(t, err, "an answer without health is none")
}

const dump = `{"epoch":120,"flags":"noout,sortbitwise,recovery_deletes","flags_set":["sortbitwise","noout","recovery_deletes"],"crush_node_flags":{"pve2":["noin"]},
"pools":[{"pool":2,"pool_name":"vm","type":1,"size":3,"min_size":2,"crush_rule":1,"pg_num":64,"pg_autoscale_mode":"on","application_metadata":{"rbd":{}},"erasure_code_profile":"","options":{"target_size_ratio":0.5,"pg_num_min":16,"target_size_bytes":107374182400}},
{"pool":3,"pool_name":"ec-data","type":3,"size":3,"min_size":2,"crush_rule":2,"pg_num":32,"pg_autoscale_mode":"warn","application_metadata":{},"erasure_code_profile":"pve_ec_ec","options":{}}],
"osds":[{"osd":1,"up":0,"in":1,"state":["exists","new"]},{"osd":0,"up":1,"in":1,"state":["exists","up"]}],
"erasure_code_profiles":{"pve_ec_ec":{"k":"2","m":"1"}}}`

func TestDump(t *testing.T) {
	m, err := ceph.ParseDump([]byte(dump))
	require.NoError(t, err)
	require.True(t, m.Has("noout"))
	require.Equal(t, []string{"noout"}, m.SetFlags())
	require.True(t, m.HasOn("pve2", "noin"))
	require.False(t, m.HasOn("pve1", "noin"))
	require.Equal(t, 0, m.OSDs[0].ID, "in the order of the ids")
	p, ok := m.Pool("vm")
	require.True(t, ok)
	require.Equal(t, ceph.Pool{
		ID: 2, Name: "vm", Size: 3, MinSize: 2, Rule: 1, PGs: 64, PGsMin: 16, Autoscale: "on", Applications: []string{"rbd"}, TargetBytes: 100 << 30, TargetRatio: 0.5,
	}, p)
	e, _ := m.Pool("ec-data")
	require.True(t, e.Erasure)
	require.Equal(t, "2", m.Profiles[e.Profile]["k"])
	var none *ceph.OSDMap
	require.False(t, none.Has("noout"))
	require.Empty(t, none.Hosts(""))
}

// talk is what a node with a monitor says, in frames.
func talk(conversation string, rc string) string {
	return "@@n begin\n@@n conf\n" + conf + "\n@@n rc 0\n@@n keyring\n/etc/pve/priv/ceph.client.admin.keyring\n\n@@n rc 0\n" +
		"@@n storages\nrbd: vm\n\tpool vm\n\tcontent images\n\n@@n rc 0\n@@n ceph\n" + conversation + "\n@@n rc " + rc + "\n@@n end\n"
}

const tree = `{"nodes":[{"id":-1,"name":"default","type":"root","children":[-3]},{"id":-3,"name":"pve1","type":"host","children":[0]},{"id":0,"name":"osd.0","type":"osd","device_class":"ssd","crush_weight":0.87,"reweight":1,"status":"up","exists":1,"depth":2}],"stray":[{"id":1,"name":"osd.1","type":"osd","crush_weight":0,"status":"down"}]}`

const metadata = `[{"id":0,"hostname":"pve1","devices":"sdb","device_ids":"sdb=ACME_SSD_A1,nvme0n1=ACME_NVME_N1"}]`

const crushRules = `[{"rule_id":0,"rule_name":"replicated_rule","type":1,"steps":[{"op":"take","item":-1,"item_name":"default"},{"op":"chooseleaf_firstn","num":0,"type":"host"},{"op":"emit"}]},{"rule_id":1,"rule_name":"fast","type":1,"steps":[{"op":"take","item":-2,"item_name":"default~nvme"},{"op":"chooseleaf_firstn","num":0,"type":"host"},{"op":"emit"}]}]`

const filesystems = `[{"name":"cephfs","metadata_pool":"cephfs_metadata","metadata_pool_id":4,"data_pool_ids":[5],"data_pools":["cephfs_data"]}]`

func conversation() string {
	var b strings.Builder
	for _, part := range [][2]string{
		{"status", "2026-11-22T01:00:00.000+0000 7f0 -1 auth: unable to find a keyring\n" + healthy}, {"dump", strings.ReplaceAll(dump, "\n", "")},
		{"tree", tree}, {"metadata", metadata}, {"rules", crushRules}, {"fs", filesystems}, {"end", ""},
	} {
		b.WriteString("\n#" + part[0] + "\n\n" + part[1] + "\n")
	}
	return b.String()
}

func TestCluster(t *testing.T) {
	c, err := ceph.ParseCluster("pve1", []byte(talk(conversation(), "0")))
	require.NoError(t, err)
	require.True(t, c.Answers, c.Silence)
	require.True(t, c.Keyring)
	o, _ := c.Map.OSD(0)
	require.Equal(t, "pve1", o.Host)
	require.Equal(t, "ssd", o.Class)
	require.Equal(t, map[string]string{"sdb": "ACME_SSD_A1", "nvme0n1": "ACME_NVME_N1"}, o.DeviceIDs)
	stray, _ := c.Map.OSD(1)
	require.Empty(t, stray.Host)
	r, ok := c.Rule("fast")
	require.True(t, ok)
	require.Equal(t, ceph.Rule{ID: 1, Name: "fast", Root: "default", Class: "nvme", Domain: "host"}, r)
	_, ok = c.Filesystem("cephfs")
	require.True(t, ok)
	s, ok := c.Storage("vm")
	require.True(t, ok)
	require.Equal(t, "vm", s.Values["pool"])
	require.Equal(t, map[string]int{"pve1": 1}, c.Map.Hosts("ssd"))
	require.Empty(t, c.Map.Hosts("hdd"))
}

func TestSilence(t *testing.T) {
	for name, tt := range map[string]struct{ said, rc, want string }{
		"hung":         {"\n#status\n", "124", "the monitors did not answer"},
		"killed":       {"\n#status\n", "137", "the monitors did not answer"},
		"no mons here": {"", "3", "this node has no connection to a monitor"},
		"timed out":    {"\n#status\n[errno 110] RADOS timed out (error connecting to the cluster)\n", "1", "the monitors did not answer within 10 s"},
		"broken":       {"\n#status\nError EINVAL: bad\n", "22", "ceph failed (exit 22): Error EINVAL: bad"},
		"half":         {"\n#status\n" + healthy + "\n", "0", "ceph failed (exit 0)"},
		"nonsense":     {strings.Replace(conversation(), tree, "{nodes", 1), "0", "the monitors' answer makes no sense"},
	} {
		c, err := ceph.ParseCluster("pve1", []byte(talk(tt.said, tt.rc)))
		require.NoError(t, err, name)
		require.False(t, c.Answers, name)
		require.Contains(t, c.Silence, tt.want, name)
		require.NotNil(t, c.Conf, "what is a file is read all the same")
	}
	_, err := ceph.ParseCluster("pve1", []byte("Connection closed"))
	require.Error(t, err)
}

func TestVolumes(t *testing.T) {
	list, err := ceph.ParseVolumes([]byte(`{"3":[{"devices":["/dev/nvme0n1"],"lv_path":"/dev/ceph-db/osd-db-1","type":"db","tags":{"ceph.cluster_fsid":"f","ceph.osd_id":"3"}},{"devices":["/dev/sdc"],"lv_path":"/dev/ceph-x/osd-block-1","type":"block","tags":{"ceph.cluster_fsid":"f","ceph.crush_device_class":"ssd"}}],"x":[]}`))
	require.NoError(t, err)
	require.Equal(t, []ceph.Volume{
		{OSD: 3, Part: "block", Paths: []string{"/dev/ceph-x/osd-block-1", "/dev/sdc"}, FSID: "f", Class: "ssd"},
		{OSD: 3, Part: "block.db", Paths: []string{"/dev/ceph-db/osd-db-1", "/dev/nvme0n1"}, FSID: "f"},
	}, list)
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"100G": 100 << 30, "1": 1, "2T": 2 << 40, "1.5K": 1536, "10 MiB": 10 << 20} {
		n, err := ceph.ParseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "x", "-1G", "1P", "99999999999999999999T"} {
		_, err := ceph.ParseSize(text)
		require.Error(t, err, text)
	}
}
