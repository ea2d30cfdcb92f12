package schema_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// everything has a field of every supported kind.
type everything struct {
	Name     string            `hcl:"name" doc:"A name."`
	State    string            `hcl:"state,optional" doc:"The state." default:"present" oneof:"present absent"`
	Force    bool              `hcl:"force,optional" doc:"Force it." default:"true"`
	Enabled  *bool             `hcl:"enabled,optional" doc:"Whether it is enabled."`
	Count    int               `hcl:"count,optional" doc:"How many." default:"3" min:"1" max:"32"`
	Ratio    float64           `hcl:"ratio,optional" doc:"A ratio."`
	Timeout  time.Duration     `hcl:"timeout,optional" doc:"How long to wait." default:"2m" min:"1s"`
	Address  netip.Addr        `hcl:"address,optional" doc:"An address."`
	Network  netip.Prefix      `hcl:"network,optional" doc:"A network."`
	Mode     fs.FileMode       `hcl:"mode,optional" doc:"A mode."`
	Source   schema.Path       `hcl:"source,optional" doc:"A local file."`
	Password secret.String     `hcl:"password,optional" doc:"A password."`
	Token    secret.String     `hcl:"token,optional" doc:"A token." literal:"ok"`
	Content  secret.Text       `hcl:"content,optional" doc:"A content."`
	Links    []netip.Addr      `hcl:"links,optional" doc:"Links." max:"2"`
	Env      map[string]string `hcl:"env,optional" doc:"Environment."`
	Vars     cty.Value         `hcl:"vars,optional" doc:"Anything."`
	Nodes    inventory.Refs    `hcl:"nodes,optional" doc:"Hosts."`
	Disks    []disk            `hcl:"disks,optional" doc:"Disks."`
	Pools    []pool            `hcl:"pool,block" doc:"Pools."`
	Retry    *retry            `hcl:"retry,block" doc:"Retries."`
	shared
}

type shared struct {
	Creates string `hcl:"creates,optional" doc:"A file."`
}

type disk struct {
	Device string `hcl:"device" doc:"The device."`
	Wipe   bool   `hcl:"wipe,optional" doc:"Wipe it."`
}

type pool struct {
	Name string `hcl:"name,label" doc:"The name."`
	Size int    `hcl:"size,optional" doc:"Copies." default:"3"`
	Min  int    `hcl:"min_size,optional" doc:"Copies needed." default:"2"`
}

func (p pool) Validate() error {
	if p.Min > p.Size {
		return errors.Join(schema.At("min_size", errors.New("it is more than size")), errors.New("the pool could never be written"))
	}
	return nil
}

type retry struct {
	Attempts int `hcl:"attempts" doc:"Tries."`
}

var body = schema.For[everything]()

func evalContext() *hcl.EvalContext {
	return &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"secret":  cty.ObjectVal(map[string]cty.Value{"pw": cty.StringVal("hunter2!").Mark(secret.Mark)}),
			"cluster": cty.ObjectVal(map[string]cty.Value{"nodes": cty.TupleVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal("pve1")})})}),
			"later":   cty.DynamicVal,
		},
		Functions: nil,
	}
}

func parse(t *testing.T, src string) hcl.Body {
	t.Helper()
	file, diags := hclsyntax.ParseConfig([]byte(src), "site.hcl", hcl.InitialPos)
	require.False(t, diags.HasErrors(), "%s", diags)
	return file.Body
}

func decode(t *testing.T, src string) (everything, []*schema.Error) {
	t.Helper()
	v, diags := hcldec.Decode(parse(t, src), body.Spec(), evalContext())
	require.False(t, diags.HasErrors(), "%s", diags)
	var got everything
	errs := body.DecodeIn("/site", v, &got)
	return got, errs
}

func TestDecodeReadsEveryKindOfField(t *testing.T) {
	v, diags := hcldec.Decode(parse(t, `
		name     = "x"
		state    = "absent"
		force    = false
		enabled  = false
		count    = 32
		ratio    = 0.5
		timeout  = "1m30s"
		address  = "192.0.2.1"
		network  = "192.0.2.0/24"
		mode     = "4755"
		source   = "motd.tmpl"
		password = secret.pw
		token    = "abc"
		content  = "pw=${secret.pw}"
		links    = ["192.0.2.2", "2001:db8::1"]
		env      = { A = "1" }
		vars     = { a = [1, true] }
		nodes    = [cluster.nodes[0], "pve2"]
		disks    = [{ device = "/dev/sda" }]
		creates  = "/etc/x"
		pool "vm" { size = 2 }
		pool "ct" {}
		retry { attempts = 4 }
	`), body.Spec(), evalContext())
	require.False(t, diags.HasErrors(), "%s", diags)
	var got everything
	require.Empty(t, body.DecodeIn("/site", v, &got))

	no := false
	want := everything{
		Name: "x", State: "absent", Enabled: &no, Count: 32, Ratio: 0.5, Timeout: 90 * time.Second,
		Address: netip.MustParseAddr("192.0.2.1"), Network: netip.MustParsePrefix("192.0.2.0/24"),
		Mode: fs.ModeSetuid | 0o755, Source: "/site/motd.tmpl",
		Links: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")},
		Env:   map[string]string{"A": "1"}, Nodes: inventory.Refs{"pve1", "pve2"},
		Disks: []disk{{Device: "/dev/sda"}}, Pools: []pool{{"vm", 2, 2}, {"ct", 3, 2}}, Retry: &retry{4},
		shared: shared{Creates: "/etc/x"},
	}
	require.Empty(t, cmp.Diff(want, got,
		cmp.AllowUnexported(everything{}),
		cmpopts.IgnoreTypes(secret.String{}, secret.Text{}, cty.Value{}),
		cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})))
	require.Equal(t, "hunter2!", got.Password.Reveal())
	require.Equal(t, "abc", got.Token.Reveal())
	require.Equal(t, "pw=hunter2!", got.Content.Reveal())
	require.True(t, got.Content.Sensitive())
	require.Equal(t, 1, got.Vars.LengthInt())
}

func TestDecodeAppliesDefaults(t *testing.T) {
	e, errs := decode(t, `name = "x"`)
	require.Empty(t, errs)
	require.Equal(t, "present", e.State)
	require.True(t, e.Force)
	require.Equal(t, 3, e.Count)
	require.Equal(t, 2*time.Minute, e.Timeout)
	require.Nil(t, e.Enabled)
	require.Nil(t, e.Retry)
}

func TestDecodeReportsEveryProblemWithItsPlace(t *testing.T) {
	for _, tt := range []struct{ name, src, path, at, summary, detail string }{
		{"number for string", `name = 5`, "name", "5", "Wrong type", `name wanted a string, got a number. Write it in quotes.`},
		{"string for number", `count = "5"`, "count", `"5"`, "Wrong type", `count wanted a whole number, got a string. Write it without quotes.`},
		{"fraction", `count = 1.5`, "count", "1.5", "Invalid value", `count: wanted a whole number, got 1.5.`},
		{"out of bounds", `count = 33`, "count", "33", "Value out of bounds", `count must be between 1 and 32, and is 33.`},
		{"duration below its bound", `timeout = "10ms"`, "timeout", `"10ms"`, "Value out of bounds", `timeout must be at least 1s, and is 10ms.`},
		{"too many", `links = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]`, "links", `["192.0.2.1", "192.0.2.2", "192.0.2.3"]`, "Value out of bounds", `links must have at most 2 elements, and has 3.`},
		{"bare duration", `timeout = 30`, "timeout", "30", "Wrong type", `timeout wanted a duration, got a number. Write a number and a unit in quotes, such as "30s".`},
		{"word outside the set", `state = "abset"`, "state", `"abset"`, "Invalid value", `state: "abset" is not one of present, absent. Did you mean "absent"?`},
		{"bare mode", `mode = 0644`, "mode", "0644", "Wrong type", `mode wanted a file mode, got a number. Write it in quotes: "0644".`},
		{"address with mask", `address = "192.0.2.1/24"`, "address", `"192.0.2.1/24"`, "Invalid value", `address: "192.0.2.1/24" is no IP address. Write it without a mask, such as "192.0.2.10" or "2001:db8::10".`},
		{"element of a list", `links = ["192.0.2.1", "x"]`, "links[1]", `"x"`, "Invalid value", `links[1]: "x" is no IP address. Write it without a mask, such as "192.0.2.10" or "2001:db8::10".`},
		{"element of a map", `env = { A = "1", B = 2 }`, `env["B"]`, "2", "Wrong type", `env["B"] wanted a string, got a number. Write it in quotes.`},
		{"object in a list", `disks = [{ devise = "x" }]`, "disks[0].devise", `"x"`, "Unsupported argument", `"devise" is not an argument here. Did you mean "device"?`},
		{"literal secret", `password = "hunter2!"`, "password", `"hunter2!"`, "Literal secret", `password is a literal secret: whoever reads the files could read it. Declare it with a secret block and write secret.<name> here.`},
		{"secret in plain", `state = secret.pw`, "state", `secret.pw`, "Secret in a plain argument", `state holds a secret, and would be shown in plans or in the argument list of a process. Only arguments that are made for secrets take one.`},
		{"secret deep in plain", `env = { A = secret.pw }`, `env["A"]`, `secret.pw`, "Secret in a plain argument", `env["A"] holds a secret, and would be shown in plans or in the argument list of a process. Only arguments that are made for secrets take one.`},
		{"unknown", `state = later.x`, "state", `later.x`, "Value not known yet", `state is known only after earlier tasks have run.`},
		{"own type", `nodes = [1]`, "nodes", `[1]`, "Invalid value", `a host must be a name or an object such as cluster.lab.pve1, not number.`},
		{"in a block", "pool \"vm\" {\n size = true\n}", "pool[0].size", `true`, "Wrong type", `size wanted a whole number, got a bool.`},
		{"validate", "pool \"a\" {}\npool \"vm\" {\n min_size = 4\n}", "pool[1].min_size", `4`, "Invalid value", `it is more than size.`},
		{"list for one", `state = ["present"]`, "state", `["present"]`, "Wrong type", `state wanted a string, got a list. It takes one value.`},
		{"null in a list", `links = [null]`, "links[0]", `null`, "Wrong type", `links[0] is null, and wanted an IP address.`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := tt.src
			if tt.path != "name" {
				src = "name = \"n\"\n" + src
			}
			parsed := parse(t, src)
			v, diags := hcldec.Decode(parsed, body.Spec(), evalContext())
			require.False(t, diags.HasErrors(), "%s", diags)
			var into everything
			errs := body.Decode(v, &into)
			require.NotEmpty(t, errs)
			require.Equal(t, tt.path, schema.FormatPath(errs[0].Path))
			require.Equal(t, tt.summary, errs[0].Summary)
			require.Equal(t, tt.detail, errs[0].Detail)
			at := body.RangeOf(parsed, errs[0].Path)
			require.Equal(t, tt.at, string(at.SliceBytes([]byte(src))))
		})
	}
}

func TestDecodeReportsAllProblemsAtOnce(t *testing.T) {
	_, errs := decode(t, "name = 1\nstate = 2\ncount = 99\npool \"a\" {\n size = 1\n}")
	var paths []string
	for _, e := range errs {
		paths = append(paths, schema.FormatPath(e.Path))
	}
	require.Equal(t, []string{"name", "state", "count", "pool[0].min_size", "pool[0]"}, paths)
}

func TestRangeFallsBackToTheBlock(t *testing.T) {
	src := "name = \"x\"\npool \"vm\" {\n min_size = 9\n}\nretry {\n attempts = 1\n}\n"
	parsed := parse(t, src)
	text := func(path cty.Path) string {
		r := body.RangeOf(parsed, path)
		return string(r.SliceBytes([]byte(src)))
	}
	require.Equal(t, `pool "vm"`, text(cty.GetAttrPath("pool").IndexInt(0)))
	require.Equal(t, `"vm"`, text(cty.GetAttrPath("pool").IndexInt(0).GetAttr("name")))
	require.Equal(t, `pool "vm"`, text(cty.GetAttrPath("pool").IndexInt(0).GetAttr("size")))
	require.Equal(t, "retry", text(cty.GetAttrPath("retry")))
	require.Equal(t, "1", text(cty.GetAttrPath("retry").GetAttr("attempts")))
	require.Equal(t, parsed.MissingItemRange(), body.RangeOf(parsed, cty.GetAttrPath("pool").IndexInt(7)))
	require.Equal(t, parsed.MissingItemRange(), body.RangeOf(parsed, nil))
}

func TestSpecListsReferencesAndSuggestsNames(t *testing.T) {
	refs := hcldec.Variables(parse(t, "name = var.a\npool \"x\" {\n size = local.b\n}"), body.Spec())
	require.Len(t, refs, 2)
	_, diags := hcldec.Decode(parse(t, "name = \"x\"\nstat = \"present\""), body.Spec(), nil)
	require.Contains(t, diags.Error(), `Did you mean "state"?`)
}

func TestEncodeGivesAJSONableObjectAndKeepsSecretsMarked(t *testing.T) {
	yes := true
	v := body.Encode(&everything{
		Name: "x", Enabled: &yes, Timeout: time.Minute, Mode: 0o640, Password: secret.New("hunter2!"),
		Content: secret.Hidden("s3cret!"), Links: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Pools: []pool{{"vm", 3, 2}},
		Nodes: inventory.Refs{"pve1"},
	})
	require.True(t, secret.Is(v.GetAttr("password")))
	require.True(t, secret.Is(v.GetAttr("content")))
	require.False(t, secret.Is(v.GetAttr("name")))
	plain, _ := v.UnmarkDeep()
	text, err := stdlib.JSONEncode(plain)
	require.NoError(t, err)
	for _, part := range []string{`"timeout":"1m0s"`, `"mode":"0640"`, `"enabled":true`, `"links":["192.0.2.1"]`, `"retry":null`, `"nodes":["pve1"]`,
		`"pool":[{"min_size":2,"name":"vm","size":3}]`} {
		require.Contains(t, text.AsString(), part)
	}
}

func TestEncodeOfDecodeOfEncodeIsTheSame(t *testing.T) {
	var e everything
	require.Empty(t, body.Decode(cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal("x"), "links": cty.TupleVal([]cty.Value{cty.StringVal("192.0.2.1")})}), &e))
	type small struct {
		Name  string        `hcl:"name" doc:"N."`
		Every time.Duration `hcl:"every,optional" doc:"E." default:"5s"`
		Tags  []string      `hcl:"tags,optional" doc:"T."`
	}
	b := schema.For[small]()
	first := small{"a", time.Hour, []string{"x", "y"}}
	var second small
	require.Empty(t, b.Decode(b.Encode(first), &second))
	require.Equal(t, first, second)
}

func TestWrongDeclarationsPanic(t *testing.T) {
	type noDoc struct {
		A string `hcl:"a"`
	}
	type noTag struct{ A string }
	type badDefault struct {
		A int `hcl:"a,optional" doc:"A." default:"x"`
	}
	type outsideDefault struct {
		A string `hcl:"a,optional" doc:"A." default:"x" oneof:"a b"`
	}
	type badType struct {
		A chan int `hcl:"a" doc:"A."`
	}
	type twice struct {
		A string `hcl:"a" doc:"A."`
		B string `hcl:"a" doc:"A."`
	}
	for name, f := range map[string]func(){
		"no doc":          func() { schema.For[noDoc]() },
		"no tag":          func() { schema.For[noTag]() },
		"bad default":     func() { schema.For[badDefault]() },
		"outside default": func() { schema.For[outsideDefault]() },
		"bad type":        func() { schema.For[badType]() },
		"twice":           func() { schema.For[twice]() },
		"no struct":       func() { schema.For[int]() },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, f) })
	}
}
