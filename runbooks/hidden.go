package runbooks

import (
	"slices"
	"sync"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// minHidden is the length from which on a number counts as hidden: masking each 1 or 22 of an output would hide
// everything else and the secret would still be guessed.
const minHidden = 4

// hiddenTexts collects what the redactor has to mask. Safe for concurrent use.
type hiddenTexts struct {
	mu    sync.Mutex
	texts []string
}

func (h *hiddenTexts) addText(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text != "" && !slices.Contains(h.texts, text) {
		h.texts = append(h.texts, text)
	}
}

// add takes the texts and numbers inside a value.
func (h *hiddenTexts) add(v cty.Value) {
	plain, _ := v.UnmarkDeep()
	_ = cty.Walk(plain, func(_ cty.Path, part cty.Value) (bool, error) {
		if !part.IsKnown() || part.IsNull() {
			return false, nil
		}
		switch part.Type() {
		case cty.String:
			h.addText(part.AsString())
		case cty.Number:
			if text, err := convert.Convert(part, cty.String); err == nil && len(text.AsString()) >= minHidden {
				h.addText(text.AsString())
			}
		}
		return true, nil
	})
}

func (h *hiddenTexts) list() []secret.String {
	h.mu.Lock()
	defer h.mu.Unlock()
	return valuesOf(h.texts, secret.New)
}
