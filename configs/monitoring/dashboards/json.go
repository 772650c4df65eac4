package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// schemaVersion is that of Grafana 10.0; later ones read it and migrate it by themselves.
const schemaVersion = 38

type object = map[string]any

// JSON is the dashboard as Grafana imports it. Which data source it asks is chosen there.
func (d Dashboard) JSON() ([]byte, error) {
	variables := []any{object{
		"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
		"refresh": 1, "hide": 0, "options": []any{}, "includeAll": false, "multi": false,
	}}
	if d.PerCluster {
		const query = "label_values(pgagent_primary_confirmed, cluster)"
		variables = append(variables, object{
			"name": "cluster", "label": "Cluster", "type": "query", "datasource": datasource, "definition": query,
			"query": object{"query": query, "refId": "cluster"}, "refresh": 2, "sort": 1,
			"hide": 0, "options": []any{}, "includeAll": false, "multi": false,
		})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(object{
		"uid": "pgctrl-" + d.Name, "title": d.Title, "description": d.Says, "tags": []string{"pgctrl"},
		"schemaVersion": schemaVersion, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "10s", "timezone": "",
		"time": object{"from": "now-1h", "to": "now"}, "templating": object{"list": variables},
		"annotations": object{"list": []any{}}, "links": links(), "panels": d.panels(),
	})
	if err != nil {
		return nil, fmt.Errorf("write dashboard %s: %w", d.Name, err)
	}
	return out.Bytes(), nil
}

var datasource = object{"type": "prometheus", "uid": "${datasource}"}

// links lead from each page to the others, with the cluster and the time range.
func links() []any {
	return []any{object{
		"type": "dashboards", "title": "pgctrl", "tags": []string{"pgctrl"}, "asDropdown": false,
		"includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
	}}
}

// height of a panel, in Grafana's units.
func (k Kind) height() int {
	switch k {
	case Number:
		return 4
	case Timeline:
		return 6
	}
	return 8
}

// panels places them one beside the other and numbers them.
func (d Dashboard) panels() []any {
	var out []any
	x, y, row := 0, 0, 0
	for i, p := range d.Panels {
		if x+p.Width > 24 {
			x, y, row = 0, y+row, 0
		}
		at := object{"x": x, "y": y, "w": p.Width, "h": p.Kind.height()}
		x, row = x+p.Width, max(row, p.Kind.height())
		out = append(out, p.object(i+1, at))
	}
	return out
}

func (p Panel) object(id int, at object) object {
	now := p.Kind == Number || p.Kind == Table
	var targets []any
	for i, a := range p.Asks {
		t := object{
			"refId": string(rune('A' + i)), "datasource": datasource, "editorMode": "code", "expr": a.Expr,
			"legendFormat": a.Legend, "instant": now, "range": !now, "format": "time_series",
		}
		if p.Kind == Table {
			t["format"] = "table"
		}
		targets = append(targets, t)
	}
	defaults := object{"unit": p.Unit, "thresholds": p.thresholds(), "color": object{"mode": "palette-classic"}}
	if p.Kind == Number || p.Kind == Timeline {
		defaults["color"] = object{"mode": "thresholds"}
	}
	out := object{
		"id": id, "type": string(p.Kind), "title": p.Title, "description": p.Says, "gridPos": at, "datasource": datasource,
		"targets": targets, "fieldConfig": object{"defaults": defaults, "overrides": []any{}}, "options": p.options(),
	}
	if p.Kind == Table {
		// The time of the query is the same in every line.
		out["transformations"] = []any{object{"id": "organize", "options": object{"excludeByName": object{"Time": true}}}}
	}
	return out
}

func (p Panel) thresholds() object {
	steps := []any{object{"color": "green", "value": nil}}
	switch {
	case p.Red == 0:
	case p.Below:
		steps = []any{object{"color": "red", "value": nil}, object{"color": "green", "value": p.Red}}
	default:
		steps = append(steps, object{"color": "red", "value": p.Red})
	}
	return object{"mode": "absolute", "steps": steps}
}

func (p Panel) options() object {
	switch p.Kind {
	case Number:
		return object{
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
			"textMode":      "auto", "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
			"wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard",
		}
	case Timeline:
		return object{
			"mergeValues": true, "showValue": "auto", "rowHeight": 0.9, "alignValue": "left",
			"legend": object{"showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": []string{}}, "tooltip": object{"mode": "single", "sort": "none"},
		}
	case Table:
		return object{"showHeader": true, "cellHeight": "sm", "frameIndex": 0}
	}
	return object{
		"legend":  object{"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []string{}},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
}
