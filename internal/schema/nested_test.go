package schema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
)

// cephLike nests in every way that a module may need.
type cephLike struct {
	Network string                   `hcl:"network" doc:"The network."`
	OSDs    []osdArgs                `hcl:"osds,optional" doc:"The disks." max:"3"`
	Classes map[string]classArgs     `hcl:"classes,optional" doc:"Rules by class of disk."`
	Scores  map[inventory.Ref]int    `hcl:"scores,optional" doc:"Scores of nodes." each_min:"0" each_max:"1000"`
	Ratios  map[string]float64       `hcl:"ratios,optional" doc:"Ratios."`
	Modes   map[string][]string      `hcl:"modes,optional" doc:"Lists by name." oneof:"rw ro"`
	Sizes   []int                    `hcl:"sizes,optional" doc:"Sizes." each_min:"1"`
	Quota   *quotaArgs               `hcl:"quota,optional" doc:"A quota."`
	First   inventory.Ref            `hcl:"first,optional" doc:"The first node."`
	Keys    map[string]secret.String `hcl:"keys,optional" doc:"Keys by name."`
	Pools   []cephPool               `hcl:"pool,block" doc:"Pools." max:"3"`
	Fences  []fenceArgs              `hcl:"fence,block" doc:"Fence devices by kind and name."`
	Notify  *notifyArgs              `hcl:"notify,block" doc:"Whom to tell."`
}

type osdArgs struct {
	Device   string   `hcl:"device" doc:"The disk." example:"/dev/disk/by-id/ata-A1"`
	DBDevice string   `hcl:"db_device,optional" doc:"The disk of its database."`
	Count    int      `hcl:"count,optional" doc:"OSDs on it." default:"1" min:"1" max:"8"`
	Tags     []string `hcl:"tags,optional" doc:"Tags."`
}

type classArgs struct {
	Rule   string `hcl:"rule" doc:"The rule."`
	Domain string `hcl:"domain,optional" doc:"The failure domain." default:"host" oneof:"host rack"`
}

type quotaArgs struct {
	Bytes   int  `hcl:"bytes" doc:"How many bytes."`
	Enforce bool `hcl:"enforce,optional" doc:"Whether to enforce it." default:"true"`
}

type cephPool struct {
	Name  string      `hcl:"name,label" doc:"Its name." max:"8"`
	Size  int         `hcl:"size,optional" doc:"Copies." default:"3" min:"1" max:"7"`
	Min   int         `hcl:"min_size,optional" doc:"Copies needed." default:"2"`
	Quota *quotaArgs  `hcl:"quota,block" doc:"Its quota."`
	Rules []poolRules `hcl:"rule,block" doc:"Its rules."`
}

func (p cephPool) Validate() error {
	if p.Min > p.Size {
		return schema.At("min_size", fmt.Errorf("%d copies are needed, and only %d are kept", p.Min, p.Size))
	}
	return nil
}

type poolRules struct {
	Kind string `hcl:"kind,label" doc:"Its kind." oneof:"read write"`
	Host string `hcl:"host" doc:"The host."`
}

type fenceArgs struct {
	Kind    string        `hcl:"kind,label" doc:"Its kind." oneof:"ipmi pdu"`
	Name    string        `hcl:"name,label" doc:"Its name."`
	Address string        `hcl:"address" doc:"Where it is."`
	Secret  secret.String `hcl:"password,optional" doc:"Its password."`
}

type notifyArgs struct {
	Mail []string `hcl:"mail" doc:"Addresses." min:"1"`
}

func (a cephLike) Validate() error {
	if a.Network == "bad" {
		return errors.Join(schema.At("osds[0].device", errors.New("it is in use")), schema.At(`scores["pve2"]`, errors.New("it is too high")))
	}
	return nil
}

var ceph = schema.For[cephLike]()

// whatIsWrong decodes and tells each problem with the text that it points at.
func whatIsWrong(t *testing.T, src string) []string {
	t.Helper()
	if !strings.Contains(src, "network") {
		src = "network = \"x\"\n" + src
	}
	parsed := parse(t, src)
	v, diags := hcldec.Decode(parsed, ceph.Spec(), evalContext())
	require.False(t, diags.HasErrors(), "%s", diags)
	var a cephLike
	var found []string
	for _, e := range ceph.Decode(v, &a) {
		at := ceph.RangeOf(parsed, e.Path)
		found = append(found, fmt.Sprintf("%s: %s: %s", at.SliceBytes([]byte(src)), e.Summary, e.Detail))
	}
	return found
}

func TestNestedArgumentsAreRead(t *testing.T) {
	src := `
		network = "x"
		osds    = [{ device = "/dev/a", db_device = "/dev/n" }, { device = "/dev/b", count = 2, tags = ["t"] }]
		classes = { ssd = { rule = "fast" } }
		scores  = { pve1 = 2, (cluster.nodes[0].name) = 2, pve2 = 0 }
		ratios  = { a = 0.5, b = 1 }
		modes   = { a = ["rw", "ro"] }
		sizes   = [1, 2]
		quota   = { bytes = 9 }
		first   = cluster.nodes[0]
		keys    = { a = secret.pw }
		pool "vm" {
			size = 2
			quota { bytes = 7 }
			rule "read" { host = "h" }
			rule "write" { host = "h" }
		}
		pool "ct" {}
		fence "ipmi" "a" {
			address  = "192.0.2.1"
			password = secret.pw
		}
		fence "pdu" "a" { address = "192.0.2.2" }
	`
	v, diags := hcldec.Decode(parse(t, src), ceph.Spec(), evalContext())
	require.False(t, diags.HasErrors(), "%s", diags)
	var got cephLike
	require.Empty(t, ceph.Decode(v, &got))
	require.Equal(t, "hunter2!", got.Keys["a"].Reveal())
	require.Equal(t, "hunter2!", got.Fences[0].Secret.Reveal())
	got.Keys, got.Fences[0].Secret = nil, secret.String{}
	require.Equal(t, cephLike{
		Network: "x",
		OSDs:    []osdArgs{{Device: "/dev/a", DBDevice: "/dev/n", Count: 1}, {Device: "/dev/b", Count: 2, Tags: []string{"t"}}},
		Classes: map[string]classArgs{"ssd": {"fast", "host"}},
		Scores:  map[inventory.Ref]int{"pve1": 2, "pve2": 0},
		Ratios:  map[string]float64{"a": 0.5, "b": 1},
		Modes:   map[string][]string{"a": {"rw", "ro"}},
		Sizes:   []int{1, 2},
		Quota:   &quotaArgs{9, true},
		First:   "pve1",
		Pools: []cephPool{
			{"vm", 2, 2, &quotaArgs{7, true}, []poolRules{{"read", "h"}, {"write", "h"}}},
			{Name: "ct", Size: 3, Min: 2, Rules: []poolRules{}},
		},
		Fences: []fenceArgs{{Kind: "ipmi", Name: "a", Address: "192.0.2.1"}, {Kind: "pdu", Name: "a", Address: "192.0.2.2"}},
	}, got)

	var hosts []string
	schema.Walk(ceph, &got, func(path cty.Path, r inventory.Ref) { hosts = append(hosts, schema.FormatPath(path)+"="+string(r)) })
	slices.Sort(hosts)
	require.Equal(t, []string{"first=pve1", `scores["pve1"]=pve1`, `scores["pve2"]=pve2`}, hosts)
}

func TestProblemsOfNestedArgumentsPointAtTheirPlace(t *testing.T) {
	for src, want := range map[string][]string{
		`osds = [{ db_device = "x" }]`:                     {`{ db_device = "x" }: Missing required argument: The argument "device" is required: The disk.`},
		`osds = [{ devic = "x" }]`:                         {`"x": Unsupported argument: "devic" is not an argument here. Did you mean "device"?`},
		`osds = [{ device = "x", speed = 1 }]`:             {`1: Unsupported argument: "speed" is not an argument here. There is device, db_device, count, tags.`},
		`osds = { device = "x" }`:                          {`{ device = "x" }: Wrong type: osds wanted a list, got an object. Write it in brackets: [ … ].`},
		`osds = ["x"]`:                                     {`"x": Wrong type: osds[0] wanted an object, got a string. Write it in braces: { device = … }.`},
		`osds = [{ device = "x", count = 9 }]`:             {`9: Value out of bounds: osds[0].count must be between 1 and 8, and is 9.`},
		`classes = { a = {} }`:                             {`{}: Missing required argument: The argument "rule" is required: The rule.`},
		`classes = { a = { rule = "x", domain = "hst" } }`: {`"hst": Invalid value: classes["a"].domain: "hst" is not one of host, rack. Did you mean "host"?`},
		`scores = { pve1 = 2000 }`:                         {`2000: Value out of bounds: scores["pve1"] must be between 0 and 1000, and is 2000.`},
		`scores = { pve1 = "1" }`:                          {`"1": Wrong type: scores["pve1"] wanted a whole number, got a string. Write it without quotes.`},
		`scores = ["pve1"]`:                                {`["pve1"]: Wrong type: scores wanted a map, got a list. Write it in braces: { name = … }.`},
		`modes = { a = ["rx"] }`:                           {`"rx": Invalid value: modes["a"][0]: "rx" is not one of rw, ro. Did you mean "ro"?`},
		`sizes = [1, 0]`:                                   {`0: Value out of bounds: sizes[1] must be at least 1, and is 0.`},
		`quota = [{}]`:                                     {`[{}]: Wrong type: quota wanted an object, got a list. Write it in braces: { bytes = … }.`},
		`keys = { a = "x" }`:                               {`"x": Literal secret: keys["a"] is a literal secret: whoever reads the files could read it. Declare it with a secret block and write secret.<name> here.`},
		"pool \"longlonglong\" {\n}":                       {`"longlonglong": Value out of bounds: name must have at most 8 characters, and has 12.`},
		"pool \"a\" {\n size = 1\n}":                       {`pool "a": Invalid value: 2 copies are needed, and only 1 are kept.`},
		"pool \"a\" {\n rule \"x\" {\n host = 1\n}\n}": {
			`"x": Invalid value: kind: "x" is not one of read, write.`, `1: Wrong type: host wanted a string, got a number. Write it in quotes.`,
		},
		"pool \"a\" {}\npool \"a\" {}":                                      {`"a": Duplicate block: There is a block pool "a" already. Each needs a name of its own.`},
		"pool \"a\" {}\npool \"b\" {}\npool \"c\" {}\npool \"d\" {}":        {`pool "a": Wrong number of blocks: pool must have at most 3 blocks, and has 4.`},
		"notify {\n mail = []\n}":                                           {`[]: Value out of bounds: mail must have at least 1 element, and has none.`},
		"network = \"bad\"\nosds = [{device = \"a\"}]\nscores = {pve2 = 1}": {`"a": Invalid value: it is in use.`, `1: Invalid value: it is too high.`},
	} {
		t.Run(src, func(t *testing.T) { require.Equal(t, want, whatIsWrong(t, src)) })
	}
}

func TestFindingsOfValidateAreMarked(t *testing.T) {
	v, _ := hcldec.Decode(parse(t, "network = \"bad\"\nosds = [{device = \"a\"}]"), ceph.Spec(), nil)
	var a cephLike
	errs := ceph.Decode(v, &a)
	require.Len(t, errs, 2)
	require.True(t, errs[0].Whole)
	require.False(t, ceph.Decode(cty.EmptyObjectVal, &a)[0].Whole)
}

func TestNestedArgumentsAreDocumented(t *testing.T) {
	page := ceph.Markdown()
	for _, part := range []string{
		"| `osds` | list of object |  | The disks. At most 3 elements. |",
		"| `scores` | map of whole number by host |  | Scores of nodes. Each from 0 to 1000. |",
		"| `pool` | block | any number | Pools. At most 3 blocks. |",
		"### Objects of `osds`", "### Object `quota`", "### Block `pool \"<name>\"`", "### Block `pool.quota`", "### Block `pool.rule \"<kind>\"`",
		"### Block `fence \"<kind>\" \"<name>\"`", "| `device` | string | required | The disk. Example: `/dev/disk/by-id/ata-A1`. |",
	} {
		require.Contains(t, page, part)
	}
	text, err := ceph.JSON()
	require.NoError(t, err)
	var s struct {
		Properties map[string]struct {
			Kind  string `json:"x-hcl"`
			Items struct {
				Type       string
				Minimum    *int
				Properties map[string]struct {
					Kind string `json:"x-hcl"`
				}
			}
			MaxItems             int
			AdditionalProperties any
		}
	}
	require.NoError(t, json.Unmarshal(text, &s))
	require.Equal(t, "block", s.Properties["pool"].Kind)
	require.Equal(t, 3, s.Properties["pool"].MaxItems)
	require.Equal(t, "label", s.Properties["pool"].Items.Properties["name"].Kind)
	require.Empty(t, s.Properties["osds"].Kind)
	require.Equal(t, "object", s.Properties["osds"].Items.Type)
	require.Equal(t, 1, *s.Properties["sizes"].Items.Minimum)
	require.Equal(t, map[string]any{"type": "integer", "minimum": 0.0, "maximum": 1000.0}, s.Properties["scores"].AdditionalProperties)
}

func TestWrongNestedDeclarationsPanic(t *testing.T) {
	type optionalObject struct {
		A quotaArgs `hcl:"a,optional" doc:"A."`
	}
	type labelInObject struct {
		A []fenceArgs `hcl:"a" doc:"A."`
	}
	type blockInObject struct {
		A struct {
			B *notifyArgs `hcl:"b,block" doc:"B."`
		} `hcl:"a" doc:"A."`
	}
	type eachOfOne struct {
		A int `hcl:"a" doc:"A." each_min:"1"`
	}
	for name, f := range map[string]func(){
		"optional object": func() { schema.For[optionalObject]() },
		"label in object": func() { schema.For[labelInObject]() },
		"block in object": func() { schema.For[blockInObject]() },
		"each of one":     func() { schema.For[eachOfOne]() },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, f) })
	}
}
