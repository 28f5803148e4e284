"""The report's style sheet: light and dark, wide and narrow, screen and paper."""

from common.pages.palette import PALETTE

STYLE = (
    PALETTE
    + """\
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 40px 32px 48px; max-width: 1180px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums lining-nums;
}
h1, h2, h3, p, dl, dd, figure, ul, pre { margin: 0; padding: 0; }
code, pre { font: 13px/1.55 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }

.brand { font-weight: 650; color: var(--accent); letter-spacing: .01em; }
.brand span { margin-left: 8px; font-weight: 400; color: var(--muted); }
.title { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 14px; margin-top: 14px; }
h1 { font-size: 38px; line-height: 1.15; letter-spacing: -.02em; font-weight: 680;
  overflow-wrap: anywhere; }
.subtitle { margin-top: 4px; color: var(--muted); overflow-wrap: anywhere; }
.status { padding: 2px 11px; border: 1px solid currentColor; border-radius: 99px;
  font-size: 13px; font-weight: 600; color: var(--muted); }
.status.finished { color: var(--good); }
.status.failed { color: var(--bad); }
.status.running { color: var(--accent); }
.status.superseded { color: var(--warn); }
.facts { display: flex; flex-wrap: wrap; gap: 14px 34px; margin-top: 24px; padding: 16px 0 18px;
  border-block: 1px solid var(--rule); }
.facts dt { font-size: 12.5px; color: var(--muted); }
.facts dd { font-weight: 560; overflow-wrap: anywhere; }

section { margin-top: 40px; }
h2 { margin-bottom: 14px; font-size: 21px; line-height: 1.3; letter-spacing: -.01em;
  font-weight: 650; overflow-wrap: anywhere; }
h3 { font-size: 15px; font-weight: 620; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; }
.card + .card, .grid + .card, .card + .grid, .tiles + .card, .aside + .card { margin-top: 16px; }
.grid > .card, .tiles > .card { margin-top: 0; }
.grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
.grid > .wide, .grid > figure:only-child { grid-column: 1 / -1; }
.stack { min-width: 0; }
.grid > .wide + .card:last-child { grid-column: 1 / -1; }
.lead { margin: -8px 0 14px; color: var(--muted); }
.aside { margin-top: 12px; color: var(--muted); }
.empty { color: var(--muted); }

.notice { margin-top: 24px; padding: 16px 20px; border-radius: 10px;
  border: 1px solid color-mix(in srgb, var(--warn) 40%, transparent);
  background: var(--warn-tint); }
.notice h2 { margin-bottom: 4px; font-size: 16px; color: var(--warn); }
.notice.failure { background: var(--bad-tint);
  border-color: color-mix(in srgb, var(--bad) 45%, transparent); }
.notice.failure h2 { color: var(--bad); }
.notice ul { padding-left: 18px; }
.notice p, .notice li { overflow-wrap: anywhere; }
.notice details { margin-top: 6px; }

.tiles { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); }
.tile h3 { color: var(--muted); }
.tile .value { margin-top: 2px; font-size: 36px; line-height: 1.2; letter-spacing: -.025em;
  font-weight: 660; }
.meter { height: 4px; margin: 8px 0 10px; border-radius: 2px; background: var(--grid);
  overflow: hidden; }
.meter span { display: block; height: 100%; background: var(--accent); }
.tile .about { font-size: 13px; line-height: 1.4; color: var(--muted); }
.tile .change { margin-top: 6px; font-size: 13px; font-weight: 620; color: var(--muted); }
.tile .change.better { color: var(--good); }
.tile .change.worse { color: var(--bad); }
.tile .change span { font-weight: 400; color: var(--muted); }

.scroll { overflow-x: auto; }
.tall-table { max-height: 620px; overflow-y: auto; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { padding: 7px 16px 7px 0; text-align: left; vertical-align: baseline; }
th:last-child, td:last-child { padding-right: 0; }
thead th { padding-top: 0; font-size: 13px; font-weight: 500; color: var(--muted);
  white-space: nowrap; }
tbody tr { border-top: 1px solid var(--rule); }
tbody th { font-weight: 560; }
.settings tbody th { font-weight: 400; color: var(--muted); white-space: nowrap; }
.tall-table { padding-top: 0; }
.tall-table thead th { position: sticky; top: 0; padding-top: 16px; background: var(--card); }
.stages tbody th { white-space: nowrap; }
.stages thead th { white-space: normal; }
.stages th, .stages td { padding-right: 9px; }
.n { text-align: right; white-space: nowrap; }
.best { font-weight: 700; color: var(--accent); }
abbr { text-decoration: none; cursor: help; }
.sites th[scope] { min-width: 92px; max-width: 220px; overflow-wrap: anywhere; }
.shape { white-space: nowrap; }
.sites .bar { width: 110px; min-width: 70px; padding-left: 0; }
.sites .bar span { display: block; height: 8px; border-radius: 2px; background: var(--c0); }
.strip { width: 160px; height: 12px; vertical-align: -1px; }
.trouble { margin-left: 10px; font-size: 13px; color: var(--warn); white-space: nowrap; }
.problem { display: block; font-size: 13px; color: var(--bad); overflow-wrap: anywhere;
  min-width: 220px; max-width: 340px; }
.sites code { font-size: 12px; color: var(--muted); }

figcaption p { font-size: 13px; line-height: 1.4; color: var(--muted); }
.chart { margin-top: 12px; }
.chart:has(.heat) { overflow: auto hidden; }
.chart svg { display: block; width: 100%; height: auto; margin: 0 auto; overflow: visible; }
.map svg { max-width: 620px; }
.card:only-child > .chart svg { max-width: 760px; }
svg text { font-size: 12px; fill: var(--muted); }
.tick.x, .axis, .band-name, .figure { text-anchor: middle; }
.tick.y { text-anchor: end; }
svg .name { fill: var(--ink); }
svg .small { font-size: 9.5px; }
.grid line, line.grid { stroke: var(--grid); }
line.zero { stroke: var(--rest); }
rect.band { fill: var(--band); }
path.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
circle.end { stroke: var(--card); stroke-width: 1.5; }
line.even { stroke: var(--ink); stroke-dasharray: 4 4; opacity: .6; }
.halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.ground { fill: var(--band); }
.cell { fill: color-mix(in srgb, var(--heat) calc(var(--share) * 100%), var(--band)); }
.pair { fill: none; stroke: var(--ink); stroke-width: 1.4; }
svg .figure.off { fill: var(--ink); }
svg .figure.on { fill: var(--heat-ink); font-weight: 600; }
path.dots { fill: none; opacity: .75; }
path.round { stroke-linecap: round; }
path.square { stroke-linecap: square; }
.hit rect { fill: transparent; }
.hit line { stroke: var(--muted); }
.hit text { text-anchor: end; fill: var(--ink); paint-order: stroke; stroke: var(--card);
  stroke-width: 6px; }
.hit line, .hit text { opacity: 0; pointer-events: none; }
.hit:hover line { opacity: .6; }
.hit:hover text { opacity: 1; }

.legend { display: flex; flex-wrap: wrap; gap: 3px 16px; margin-top: 12px; list-style: none;
  font-size: 13px; color: var(--muted); }
.legend li { overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 10px; height: 10px; margin-right: 6px; border-radius: 2px;
  background: currentColor; }
.swatch.round { border-radius: 50%; }
.swatch.plus { clip-path: polygon(35% 0, 65% 0, 65% 35%, 100% 35%, 100% 65%, 65% 65%, 65% 100%,
  35% 100%, 35% 65%, 0 65%, 0 35%, 35% 35%); }

.pairs { columns: 2; column-gap: 32px; margin-top: 8px; font-size: 14px; }
.pairs div { display: flex; gap: 12px; justify-content: space-between; padding: 4px 0;
  break-inside: avoid; }
.pairs dt { color: var(--muted); white-space: nowrap; }
.pairs dd { text-align: right; overflow-wrap: anywhere; min-width: 0; }
pre { margin-top: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
.command pre span { display: inline-block; max-width: 100%; }
summary { cursor: pointer; font-weight: 560; }
footer { margin-top: 40px; padding-top: 16px; border-top: 1px solid var(--rule); }
footer p { max-width: 78ch; font-size: 13px; color: var(--muted); }

.near { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; padding: 6px 0; }
.near + .near { border-top: 1px solid var(--rule); }
.near b { width: 34px; font-weight: 620; }
.near img { width: 64px; height: 64px; border-radius: 5px; object-fit: cover; }
@media (max-width: 820px) {
  body { padding: 24px 16px 32px; }
  .grid { grid-template-columns: minmax(0, 1fr); }
  .card { padding: 14px 14px; }
  .tall-table { padding-top: 0; }
  section { margin-top: 32px; }
}
@media (max-width: 560px) {
  h1 { font-size: 31px; }
  .facts { gap: 12px 26px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; }
  .tile:last-child:nth-child(odd) { grid-column: 1 / -1; }
  .tile .value { font-size: 29px; }
  .pairs { columns: 1; }
  .chart svg text { font-size: 14.5px; }
  .chart svg .name { font-size: 13px; }
  .chart svg .small { font-size: 10px; }
}
@media print {
  :root { --page: #fff; --band: #f3f4f2; }
  body { max-width: none; padding: 0; font-size: 12px; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .card, figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .tall-table { max-height: none; overflow: visible; }
  .scroll { overflow: visible; }
  .tiles { grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 8px; }
  .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .card { padding: 10px 12px; }
  .tile .value { font-size: 24px; }
  .tile p, .pairs, table, thead th { font-size: 10px; }
  th, td { padding-right: 7px; }
  thead th, thead th.n, .stages th[scope] { white-space: normal; }
  .chart .heat { min-width: 0 !important; }
}
"""
)

SERIES = "".join(
    f".s{i} {{ fill: var(--c{i}); color: var(--c{i}); }}\npath.s{i} {{ stroke: var(--c{i}); }}\n"
    for i in range(10)
) + "".join(
    f".{state} {{ fill: var(--{colour}); color: var(--{colour}); }}\n"
    for state, colour in {
        "rest": "rest",
        "answered": "c2",
        "missing": "c4",
        "refused": "bad",
        "unasked": "grid",
    }.items()
)
STYLE += SERIES
