package runbooks_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
)

// echo loads a site whose one task has the given expression as its text, and returns what became of it.
func echo(t *testing.T, expr string) (string, string) {
	t.Helper()
	doc, diags := loadFiles(t, map[string]string{
		"site.hcl":      "host \"h\" { address = \"192.0.2.1\" }\nlocals {\n  x = " + expr + "\n}\nrunbook \"r\" {\n  hosts = host.h\n  task \"command\" \"c\" { run = jsonencode(local.x) }\n}\n",
		"hello.txt":     "hello\n",
		"sub/deep.txt":  "deep",
		"list.tftpl":    "%{ for x in xs ~}\n- ${upper(x)}\n%{ endfor ~}\n",
		"nested.tftpl":  "${templatefile(\"list.tftpl\", {})}",
		"binary.bin":    "\xff\xfe\x00",
		"unclosed.tmpl": "${",
	}, runbooks.Options{Environ: []string{"COLOUR=red"}, Home: "/home/u", Now: func() time.Time { return time.Unix(1767323045, 0) }})
	if diags.HasErrors() {
		return "", show(diags, doc.Files)
	}
	rb, _ := doc.Runbook("r")
	return argsOf[commandArgs](t, rb, "c", "h", nil).Run, ""
}

func TestFunctions(t *testing.T) {
	for expr, want := range map[string]string{
		`abs(-3)`: `3`, `ceil(1.2)`: `2`, `floor(1.8)`: `1`, `max(1, 5, 3)`: `5`, `min(4, 2)`: `2`, `pow(2, 10)`: `1024`, `signum(-9)`: `-1`,
		`parseint("ff", 16)`: `255`, `sum([1, 2, 3])`: `6`, `sum([])`: `0`, `log(100, 10)`: `2`,
		`chomp("a\n")`: `"a"`, `format("%s-%03d", "n", 7)`: `"n-007"`, `formatlist("%s!", ["a", "b"])`: `["a!","b!"]`,
		`indent(2, "a\nb")`: `"a\n  b"`, `join("-", ["a", "b"])`: `"a-b"`, `lower("AbC")`: `"abc"`, `upper("a")`: `"A"`,
		`regex("[0-9]+", "pve12")`: `"12"`, `regexall("[a-z]", "a1b")`: `["a","b"]`, `replace("a.b.c", ".", "-")`: `"a-b-c"`,
		`replace("pve12", "/[0-9]+/", "#")`: `"pve#"`, `split(",", "a,b")`: `["a","b"]`, `strrev("abc")`: `"cba"`,
		`substr("hello", 1, 3)`: `"ell"`, `title("a b")`: `"A B"`, `trim("?a?", "?")`: `"a"`, `trimprefix("ab", "a")`: `"b"`,
		`trimsuffix("ab", "b")`: `"a"`, `trimspace("  a ")`: `"a"`, `startswith("pve1", "pve")`: `true`, `endswith("pve1", "2")`: `false`,
		`strcontains("pve1", "ve")`: `true`,
		`chunklist([1, 2, 3], 2)`:   `[[1,2],[3]]`, `coalesce("", null, "x")`: `"x"`, `coalescelist([], ["a"])`: `["a"]`,
		`compact(["a", "", "b"])`: `["a","b"]`, `concat([1], [2])`: `[1,2]`, `contains(["a"], "a")`: `true`, `distinct(["a", "a"])`: `["a"]`,
		`element(["a", "b"], 3)`: `"b"`, `flatten([[1], [2, [3]]])`: `[1,2,3]`, `index(["a", "b"], "b")`: `1`, `keys({ b = 1, a = 2 })`: `["a","b"]`,
		`values({ b = 1, a = 2 })`: `[2,1]`, `length("héé")`: `3`, `length([1, 2])`: `2`, `length({ a = 1 })`: `1`, `lookup({ a = 1 }, "b", 5)`: `5`,
		`lookup({ a = 1 }, "a")`: `1`, `lookup(tomap({ a = "x" }), "b", "y")`: `"y"`, `merge({ a = 1 }, { b = 2 })`: `{"a":1,"b":2}`,
		`range(3)`: `[0,1,2]`, `reverse([1, 2])`: `[2,1]`, `setintersection(["a", "b"], ["b"])`: `["b"]`, `setproduct(["a"], ["x", "y"])`: `[["a","x"],["a","y"]]`,
		`setsubtract(["a", "b"], ["b"])`: `["a"]`, `setunion(["a"], ["b"])`: `["a","b"]`, `slice(["a", "b", "c"], 1, 2)`: `["b"]`, `sort(["b", "a"])`: `["a","b"]`,
		`zipmap(["a"], [1])`: `{"a":1}`, `one([])`: `null`, `one(["a"])`: `"a"`, `alltrue([true, false])`: `false`, `anytrue([true, false])`: `true`, `alltrue([])`: `true`,
		`try(tonumber("x"), 7)`: `7`, `can(tonumber("x"))`: `false`, `tostring(5)`: `"5"`, `tobool("true")`: `true`, `toset(["b", "a", "b"])`: `["a","b"]`,
		`tolist(toset(["a"]))`: `["a"]`, `tomap({ a = "1" })`: `{"a":"1"}`, `formatdate("YYYY-MM-DD", "2026-01-02T03:04:05Z")`: `"2026-01-02"`,
		`timeadd("2026-01-02T03:04:05Z", "1h")`: `"2026-01-02T04:04:05Z"`, `timestamp()`: `"2026-01-02T03:04:05Z"`,
		`csvdecode("a,b\n1,2")`: `[{"a":"1","b":"2"}]`, `jsondecode("{\"a\": [1]}").a[0]`: `1`, `yamldecode("a: [1, 2]").a[1]`: `2`, `yamlencode({ a = 1 })`: `"\"a\": 1\n"`,
		`base64encode("hi")`: `"aGk="`, `base64decode("aGk=")`: `"hi"`, `urlencode("a b/ü")`: `"a+b%2F%C3%BC"`,
		`sha256("a")`:                 `"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"`,
		`cidrhost("10.1.0.0/16", 5)`:  `"10.1.0.5"`,
		`cidrhost("10.1.0.0/16", -2)`: `"10.1.255.254"`, `cidrnetmask("10.1.0.0/20")`: `"255.255.240.0"`, `cidrsubnet("10.1.0.0/16", 8, 3)`: `"10.1.3.0/24"`,
		`cidrsubnet("2001:db8::/32", 16, 1)`: `"2001:db8:1::/48"`, `cidrsubnets("10.1.0.0/16", 4, 4, 8)`: `["10.1.0.0/20","10.1.16.0/20","10.1.32.0/24"]`,
		`cidrcontains("10.0.0.0/8", "10.2.3.4")`: `true`, `cidrcontains("10.0.0.0/24", "10.0.0.0/16")`: `false`,
		`file("hello.txt")`: `"hello\n"`, `file("sub/deep.txt")`: `"deep"`, `fileexists("nothing")`: `false`, `fileexists("hello.txt")`: `true`,
		`templatefile("list.tftpl", { xs = ["a", "b"] })`: `"- A\n- B\n"`, `basename("/a/b.txt")`: `"b.txt"`, `dirname("/a/b.txt")`: `"/a"`,
		`pathexpand("~/x")`: `"/home/u/x"`, `env("COLOUR")`: `"red"`, `env("NOTHING")`: `null`, `env("NOTHING", "default")`: `"default"`,
	} {
		t.Run(expr, func(t *testing.T) {
			got, problems := echo(t, expr)
			require.Empty(t, problems)
			require.Equal(t, want, got)
		})
	}
}

func TestFunctionsSayWhatIsWrong(t *testing.T) {
	for expr, want := range map[string]string{
		`file("nothing.txt")`:                     `there is no file`,
		`file("binary.bin")`:                      `is no UTF-8 text; use the module file for binary data`,
		`file("sub")`:                             `is not a regular file`,
		`templatefile("list.tftpl", { ys = [] })`: `the template uses "xs", which is not among its values [ys]`,
		`templatefile("nested.tftpl", {})`:        `templatefile`,
		`templatefile("unclosed.tmpl", {})`:       `unclosed.tmpl:1`,
		`templatefile("list.tftpl", "x")`:         `an object with the values for the template is required`,
		`cidrhost("10.0.0.0/33", 1)`:              `"10.0.0.0/33" is no network such as 10.0.1.0/24`,
		`cidrsubnets("10.0.0.0/8", 30)`:           `can be extended by 1 to 24 bits`,
		`cidrsubnets("10.0.0.0/30", 1, 1, 1)`:     `no room left`,
		`one([1, 2])`:                             `the list has 2 elements`,
		`lookup({ a = 1 }, "b")`:                  `no attribute "b"`,
		`index(["a"], "z")`:                       `does not hold the value`,
		`sum(["a"])`:                              `every element must be a number`,
		`base64decode("?")`:                       `not base64`,
		`coalesce(null, "")`:                      `all arguments are null or empty`,
		`replace("a", "/[/", "")`:                 `error parsing regexp`,
		`uper("x")`:                               `There is no function "uper". Did you mean "upper"?`,
		`[for i in [] : nothing(i)]`:              `There is no function "nothing".`,
		`true ? 1 : filee("x")`:                   `Did you mean "file"?`,
	} {
		t.Run(expr, func(t *testing.T) {
			_, problems := echo(t, expr)
			require.Contains(t, problems, want)
			require.Contains(t, problems, "site.hcl:3")
		})
	}
}

func TestFunctionNamesAreListed(t *testing.T) {
	names := runbooks.FunctionNames()
	require.True(t, slices.IsSorted(names))
	require.Subset(t, names, []string{"file", "templatefile", "jsonencode", "cidrhost", "lookup", "timestamp", "env"})
}

func TestFilesThatFunctionsReadAreLimited(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/large.txt", []byte(strings.Repeat("x", 5<<20)), 0o600))
	_, problems := echo(t, fmt.Sprintf("file(%q)", dir+"/large.txt"))
	require.Contains(t, problems, "larger than 4 MiB; use the module file, which streams its source")
}
