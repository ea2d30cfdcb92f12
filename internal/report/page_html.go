package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

//go:embed page.html
var pageHTML string

// pageTemplate escapes every value for the place in which it stands.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"class": pageClass}).Parse(pageHTML))

// pageClass is the class of a cell: how it is marked, and that it is a number.
func pageClass(columns []pageColumn, i int, mark string) string {
	if i < len(columns) && columns[i].Right {
		return strings.TrimSpace(mark + " r")
	}
	return mark
}

// pageView is what the template shows.
type pageView struct {
	Page                    *Page
	Title, Subtitle, Mark   string
	Facts                   [][2]string
	Nav                     []pageSection
	Urgent, Sections, Plans []pageSection
	Chart                   *pageChart
	Kinds                   []pageKindName
	Footer                  string
}

// HTML writes the page as one file that needs nothing else: no script, no font and no picture from elsewhere.
func (p *Page) HTML(w io.Writer) error {
	v := pageView{
		Page: p, Title: p.title(), Subtitle: p.subtitle(), Mark: p.mark(), Facts: p.pageFacts(), Footer: p.footer(),
		Urgent: p.urgent(), Sections: p.sections(), Plans: p.planned(), Kinds: slices.DeleteFunc(slices.Clone(pageKindNames), func(k pageKindName) bool {
			return slices.Contains([]string{"turn", "wait", "gap"}, k.Class)
		}),
	}
	if len(p.Spans) > 0 || len(p.Turns) > 0 {
		v.Chart = p.chart()
	}
	v.Nav = slices.Concat(v.Urgent, []pageSection{{ID: "timeline", Title: "Timeline"}}, v.Sections, v.Plans)
	for _, list := range [][]pageSection{v.Urgent, v.Sections, v.Plans} {
		cleanSections(list)
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// cleanSections takes out of the texts what no page should hold: control characters and broken letters.
func cleanSections(all []pageSection) {
	for _, s := range all {
		for i := range s.Lead {
			s.Lead[i] = pageClean(s.Lead[i])
		}
		for _, t := range s.Tables {
			for _, row := range t.Rows {
				for i := range row {
					row[i].Text = pageClean(row[i].Text)
				}
			}
		}
	}
}

func pageClean(text string) string { return strings.ToValidUTF8(Clean(text), "\uFFFD") }

// title names the run.
func (p *Page) title() string {
	name := p.Runbook
	if name == "" {
		name = p.Command
	}
	if p.Cluster != "" {
		name += " on " + p.Cluster
	}
	if name == "" {
		name = "run " + p.Run
	}
	return pageClean(name)
}

// subtitle says who ran it, when, and under what id.
func (p *Page) subtitle() string {
	var parts []string
	if !p.Began.IsZero() {
		from, to := p.Began.In(p.where()), p.Ended.In(p.where())
		layout := "Mon 2 Jan 2006 15:04:05 MST"
		if from.Format(time.DateOnly) == to.Format(time.DateOnly) {
			layout = "15:04:05 MST"
		}
		parts = append(parts, from.Format("Mon 2 Jan 2006 15:04:05")+" to "+to.Format(layout))
	}
	if p.By != "" {
		parts = append(parts, "by "+p.By)
	}
	if p.Run != "" {
		parts = append(parts, "run "+p.Run)
	}
	if p.Lab {
		parts = append(parts, "in the lab: no real machine was touched")
	}
	if p.Damaged > 0 {
		parts = append(parts, Count(p.Damaged, "line")+" of the journal could not be read")
	}
	return pageClean(strings.Join(parts, " · "))
}

func (p *Page) mark() string {
	switch {
	case p.Running:
		return ""
	case p.Status == event.OK || p.Status == event.Changed || p.Status == event.Skipped:
		if len(p.down())+len(p.inPlace()) > 0 {
			return "warn"
		}
		return "ok"
	case p.Status == event.Cancelled || p.Status == event.Refused:
		return "warn"
	}
	return "bad"
}

func (p *Page) footer() string {
	text := "Made by pxrun"
	if p.Version != "" {
		text += " " + p.Version
	}
	return text + " from the journal of the run. Times are in " + p.Began.In(p.where()).Format("MST") + "."
}
