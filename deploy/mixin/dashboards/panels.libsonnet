// The few kinds of panel that the board has, as Grafana's JSON model wants them. Grafonnet would bring 10 MB for these.
local datasource = { type: 'prometheus', uid: '${datasource}' };
local described(title, description) = {
  title: title,
  description: description,
  datasource: datasource,
};
local lines(targets) = {
  // Grafana knows the queries of a panel by their letters.
  targets: [
    { datasource: datasource, refId: std.char(std.codepoint('A') + i) } + targets[i]
    for i in std.range(0, std.length(targets) - 1)
  ],
};
local steps(colours) = { mode: 'absolute', steps: [{ color: each[1], value: each[0] } for each in colours] };
local bare = { defaults: {}, overrides: [] };

{
  // What is asked for, and how each series is called. `now`: the value of this moment only.
  query(expr, legend):: { expr: expr, legendFormat: legend, range: true },
  now(expr, legend):: { expr: expr, legendFormat: legend, instant: true, range: false },
  words(pairs):: [{ type: 'value', options: { [each[0]]: { text: each[1], color: each[2], index: 0 } for each in pairs } }],
  steps:: steps,

  row(title):: { type: 'row', title: title, collapsed: false, panels: [] },

  lines(title, description, unit, targets, stacked=false):: described(title, description) + lines(targets) + {
    type: 'timeseries',
    fieldConfig: bare {
      defaults: {
        unit: unit,
        min: 0,
        custom: { fillOpacity: if stacked then 60 else 5, spanNulls: false } + if stacked then {
          drawStyle: 'bars',
          stacking: { mode: 'normal', group: 'A' },
        } else { drawStyle: 'line' },
      },
    },
    options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
  },

  timeline(title, description, words, targets):: described(title, description) + lines(targets) + {
    type: 'state-timeline',
    fieldConfig: bare {
      defaults: { mappings: words, custom: { fillOpacity: 80, lineWidth: 0 }, color: { mode: 'thresholds' } },
    },
    options: {
      mergeValues: true,
      showValue: 'never',
      alignValue: 'left',
      rowHeight: 0.8,
      legend: { displayMode: 'list', placement: 'bottom' },
      tooltip: { mode: 'single' },
    },
  },

  // `text`: name shows how the series are called, value what they are.
  stat(title, description, text, colours, targets, words=[], unit='none'):: described(title, description) + lines(targets) + {
    type: 'stat',
    fieldConfig: bare {
      defaults: { unit: unit, thresholds: steps(colours), color: { mode: 'thresholds' }, mappings: words },
    },
    options: {
      textMode: text,
      colorMode: 'background',
      graphMode: 'none',
      orientation: 'auto',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
  },

  // Rows of panels, each row as wide as the board (24), whatever stands in it: [[title, height, [panel, …]], …].
  // A panel may say how wide it is by `width`.
  laidOut(rows)::
    local widths(panels) = [if std.objectHasAll(each, 'width') then each.width else std.floor(24 / std.length(panels)) for each in panels];
    local tops = [std.foldl(function(sum, row) sum + 1 + row[1], rows[:i], 0) for i in std.range(0, std.length(rows) - 1)];
    local all = std.flattenArrays([
      local row = rows[i];
      local wide = widths(row[2]);
      [$.row(row[0]) { gridPos: { x: 0, y: tops[i], w: 24, h: 1 } }] +
      [
        row[2][j] { gridPos: { x: std.foldl(function(a, b) a + b, wide[:j], 0), y: tops[i] + 1, w: wide[j], h: row[1] } }
        for j in std.range(0, std.length(wide) - 1)
      ]
      for i in std.range(0, std.length(rows) - 1)
    ]);
    [all[i] { id: i + 1 } for i in std.range(0, std.length(all) - 1)],
}
