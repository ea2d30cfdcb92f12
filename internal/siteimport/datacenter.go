package siteimport

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/zclconf/go-cty/cty"
)

// datacenter writes the options of datacenter.cfg.
func (w *writer) datacenter() {
	options := pve.ParseDatacenter(w.Options)
	if len(options) == 0 {
		return
	}
	b := w.task("datacenter", "options")
	for _, name := range slices.Sorted(maps.Keys(options)) {
		option, known := pve.FindDatacenterOption(name)
		attribute, value := strings.ReplaceAll(name, "-", "_"), options[name]
		switch {
		case !known:
			w.note("option %s of the datacenter is not known to pxrun; it is left alone", name)
		case len(option.Parts) > 0:
			parts := map[string]cty.Value{}
			for part, v := range config.ParseProperties(value, option.Bare) {
				parts[part] = cty.StringVal(v)
			}
			b.SetAttributeValue(attribute, cty.ObjectVal(parts))
		case name == "registered-tags":
			setList(b, attribute, config.SplitList(value))
		case name == "max_workers":
			if n, err := strconv.Atoi(value); err == nil {
				setInt(b, attribute, n)
			}
		default:
			set(b, attribute, value)
		}
	}
}
