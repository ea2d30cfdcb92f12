package cli

import (
	"slices"
	"strings"

	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/pxrun/pxrun/runbooks/stock"
	"github.com/spf13/cobra"
)

// complete finds the words that a shell offers. It reads files and the state folder and connects to nothing; what cannot be read is not offered.
type complete struct{ app *app }

// words makes a function of cobra's of one that lists words with what they are behind a tab. Files are offered too if they may stand there.
func (c complete) words(list func(cmd *cobra.Command, args []string) []string, files bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, given string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if files {
			directive = cobra.ShellCompDirectiveDefault
		}
		return starting(list(cmd, args), given), directive
	}
}

// separated is words for a list with commas: what stands before the last one stays.
func (c complete) separated(list func(cmd *cobra.Command, args []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, given string) ([]string, cobra.ShellCompDirective) {
		before, last := "", given
		if i := strings.LastIndexByte(given, ','); i >= 0 {
			before, last = given[:i+1], given[i+1:]
		}
		words := starting(list(cmd, args), last)
		for i := range words {
			words[i] = before + words[i]
		}
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

func starting(words []string, given string) []string {
	return slices.DeleteFunc(words, func(word string) bool { return !strings.HasPrefix(word, given) })
}

// site reads the files that the command line names so far; nil if they cannot be read.
func (c complete) site(cmd *cobra.Command, args []string) *runbooks.Document {
	o := siteOptions{secretsOf: []string{}}
	for _, arg := range args {
		if exists(arg) {
			o.paths = append(o.paths, arg)
		}
	}
	c.app.InTerminal = false // nobody is to be asked for a variable; this process does nothing else
	doc, _, err := c.app.read(cmd.Context(), o, false)
	if err != nil || doc == nil || doc.Site == nil {
		return nil
	}
	return doc
}

// runbooks are those of the files, then the built-in ones.
func (c complete) runbooks(cmd *cobra.Command, args []string) []string {
	if slices.ContainsFunc(args, func(arg string) bool { return !exists(arg) }) {
		return nil // one is named already
	}
	var names []string
	if doc := c.site(cmd, args); doc != nil {
		for _, name := range doc.RunbookNames() {
			names = append(names, name+"\trunbook")
		}
	}
	for _, name := range stock.Names() {
		names = append(names, name+"\tbuilt-in runbook")
	}
	return names
}

// hosts are the names of hosts, clusters and groups.
func (c complete) hosts(cmd *cobra.Command, args []string) []string {
	doc := c.site(cmd, args)
	if doc == nil {
		return nil
	}
	return selectable(doc.Site)
}

func selectable(site *inventory.Site) []string {
	var names []string
	for _, h := range site.Hosts {
		names = append(names, h.Name+"\thost")
	}
	for _, cluster := range site.Clusters {
		names = append(names, cluster.Name+"\tcluster")
	}
	for _, g := range site.Groups {
		names = append(names, g.Name+"\tgroup")
	}
	return names
}

func (c complete) clusters(cmd *cobra.Command, args []string) []string {
	doc := c.site(cmd, args)
	if doc == nil {
		return nil
	}
	var names []string
	for _, cluster := range doc.Site.Clusters {
		names = append(names, cluster.Name)
	}
	return names
}

// tags are those of all runbooks of the files, or of the one that is named.
func (c complete) tags(cmd *cobra.Command, args []string) []string {
	doc := c.site(cmd, args)
	if doc == nil {
		return nil
	}
	var tags []string
	for _, book := range doc.Runbooks {
		named := slices.ContainsFunc(args, func(arg string) bool { return !exists(arg) })
		if named && !slices.Contains(args, book.Name) {
			continue
		}
		for _, tag := range book.Tags {
			if !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
	}
	slices.Sort(tags)
	return tags
}

// runs are the ids of runs, the newest first.
func (c complete) runs(*cobra.Command, []string) []string {
	store, err := c.app.store()
	if err != nil {
		return nil
	}
	runs, err := store.List()
	if err != nil {
		return nil
	}
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.ID+"\t"+r.Runbook+" "+r.Status())
	}
	return ids
}

// released are what release takes: runs and hosts with something left in place.
func (c complete) released(*cobra.Command, []string) []string {
	store, err := c.app.store()
	if err != nil {
		return nil
	}
	pending, err := store.Pending()
	if err != nil {
		return nil
	}
	var words []string
	for _, p := range pending {
		for _, word := range []string{p.Undo.Host + "\t" + p.Undo.Summary, p.Run + "\trun"} {
			if !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

// faults are the kinds of faults, then the host.
func (c complete) faults(cmd *cobra.Command, args []string) []string {
	if len(args) > 0 {
		return c.labHosts(cmd, nil)
	}
	var kinds []string
	for _, k := range lab.FaultKinds() {
		kinds = append(kinds, k.Name+"\t"+k.Summary)
	}
	return kinds
}

func (c complete) labHosts(cmd *cobra.Command, args []string) []string {
	doc := c.site(cmd, nil)
	if doc == nil || len(args) > 0 {
		return nil
	}
	var names []string
	for _, h := range doc.Site.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// completions tells cobra what may stand where.
func completions(a *app, root *cobra.Command) {
	c := complete{a}
	for path, list := range map[string]cobra.CompletionFunc{
		"plan": c.words(c.runbooks, true), "apply": c.words(c.runbooks, true), "resume": c.words(first(c.runs), false), "release": c.words(c.released, false),
		"runs show": c.words(first(c.runs), false), "report": c.words(first(c.runs), false), "exec": c.separated(c.hosts), "lab ssh": c.words(c.labHosts, false), "lab fault add": c.words(c.faults, false),
		"lab guest add": c.words(c.labHosts, false), "lab guest remove": c.words(c.labHosts, false),
	} {
		if cmd, rest, err := root.Find(strings.Fields(path)); err == nil && len(rest) == 0 {
			cmd.ValidArgsFunction = list
		}
	}
	for _, cmd := range root.Commands() {
		for flag, list := range map[string]cobra.CompletionFunc{
			"limit": c.separated(c.hosts), "tags": c.separated(c.tags), "skip-tags": c.separated(c.tags), "cluster": c.words(c.clusters, false),
		} {
			if cmd.Flags().Lookup(flag) != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, list) // it fails only for a flag that is not there, or has one already
			}
		}
	}
}

// first offers words for the first argument only.
func first(list func(*cobra.Command, []string) []string) func(*cobra.Command, []string) []string {
	return func(cmd *cobra.Command, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return list(cmd, args)
	}
}
