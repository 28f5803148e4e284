"""The gallery's style sheet: light and dark, wide and narrow."""

from common.pages.palette import PALETTE, SERIES

STYLE = (
    PALETTE
    + """\
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 76px; }
body { margin: 0 auto; padding: 32px 32px 64px; max-width: 1240px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums lining-nums; }
h1, h2, h3, p, dl, dd, figure, ul { margin: 0; padding: 0; }
button, input, select { font: inherit; color: inherit; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.brand { font-weight: 650; color: var(--accent); }
.brand span { margin-left: 8px; font-weight: 400; color: var(--muted); }
h1 { margin-top: 10px; font-size: 34px; line-height: 1.15; letter-spacing: -.02em;
  font-weight: 680; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: 10px 30px; margin: 18px 0 22px; padding: 14px 0 15px;
  border-block: 1px solid var(--rule); }
.facts dt { font-size: 12.5px; color: var(--muted); }
.facts dd { font-weight: 560; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 16px 18px; }

.bar { position: sticky; top: 0; z-index: 3; display: flex; flex-wrap: wrap; align-items: center;
  gap: 8px 10px; margin: 0 -32px 20px; padding: 10px 32px; background: var(--page);
  border-bottom: 1px solid var(--rule); }
.bar input, .bar select, .names input, .names select { padding: 6px 10px; min-width: 0;
  background: var(--card); border: 1px solid var(--rule); border-radius: 7px; }
.bar input { flex: 1 1 150px; max-width: 320px; }
.bar .state { margin-left: auto; font-size: 13.5px; color: var(--muted); }
button { padding: 6px 14px; border: 1px solid var(--rule); border-radius: 7px;
  background: var(--card); cursor: pointer; }
button.main { border-color: var(--accent); background: var(--accent); color: #fff;
  font-weight: 600; }
button:disabled { opacity: .45; cursor: default; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.told { flex-basis: 100%; font-size: 13.5px; }
.told.bad { color: var(--bad); }

.map { margin-bottom: 20px; padding: 14px 16px 12px; }
.map header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 12px; }
.map h2, .piles h2 { font-size: 19px; letter-spacing: -.01em; font-weight: 650; }
.map header p { flex: 1 1 260px; font-size: 13px; color: var(--muted); }
.map .zoom { display: flex; gap: 6px; }
.zoom button { padding: 2px 0; width: 36px; font-size: 16px; line-height: 1.4; }
#whole { font-size: 13px; }
.stage { position: relative; margin-top: 10px; border-radius: 8px; overflow: hidden;
  background: var(--band); }
canvas { display: block; width: 100%; height: 560px; cursor: grab; touch-action: pan-y; }
canvas.held { cursor: grabbing; touch-action: none; }
.tip { position: absolute; left: 10px; bottom: 10px; max-width: calc(100% - 20px);
  padding: 5px 10px; border-radius: 7px; background: var(--card); border: 1px solid var(--rule);
  font-size: 13px; overflow-wrap: anywhere; pointer-events: none; }
.tip:empty { display: none; }

.piles { display: grid; gap: 16px; grid-template-columns: repeat(2, minmax(0, 1fr)); }
.pile.off { display: none; }
.pile header { display: flex; align-items: center; gap: 10px; }
.pile .dot { flex: none; width: 13px; height: 13px; border-radius: 50%; }
.pile h3 { flex: 1; font-size: 17px; font-weight: 640; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
.pile .number { font-size: 13px; color: var(--muted); white-space: nowrap; }
.pile .sizes { margin-top: 2px; font-size: 13.5px; color: var(--muted); }
.pile .sizes b { color: var(--ink); font-weight: 600; }
.meter { height: 4px; margin-top: 8px; border-radius: 2px; background: var(--grid);
  overflow: hidden; }
.meter span { display: block; height: 100%; }
.strip { margin-top: 12px; }
.strip p { margin-bottom: 5px; font-size: 13px; color: var(--muted); }
.strip p b { color: var(--ink); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 4px; }
.tiles button { padding: 0; border: 0; border-radius: 4px; overflow: hidden; aspect-ratio: 1;
  background: var(--band); }
.tiles img { display: block; width: 100%; height: 100%; object-fit: cover; }
.tiny img, .tiny dialog img { image-rendering: pixelated; }
.names { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 8px 10px;
  margin-top: 12px; align-items: center; font-size: 14px; }
.names input[type=text] { width: 100%; }
.names select { max-width: 190px; }
.names label.several { grid-column: 1 / -1; display: flex; gap: 8px; align-items: center;
  color: var(--muted); }
.others { margin-top: 20px; }
.others ul { margin-top: 8px; columns: 3 220px; list-style: none; font-size: 14px; }
.none { margin-top: 14px; color: var(--muted); }
dialog { max-width: min(92vw, 460px); padding: 18px; border: 1px solid var(--rule);
  border-radius: 12px; background: var(--card); color: var(--ink); }
dialog::backdrop { background: rgb(0 0 0 / .5); }
dialog img { display: block; width: min(80vw, 384px); border-radius: 6px; }
dialog p { margin-top: 10px; overflow-wrap: anywhere; }
dialog p.about { font-size: 13.5px; color: var(--muted); }
dialog form { margin-top: 12px; text-align: right; }
footer { margin-top: 32px; padding-top: 14px; border-top: 1px solid var(--rule); }
footer p { max-width: 78ch; font-size: 13px; color: var(--muted); }
@media (prefers-color-scheme: dark) { button.main { color: #08131b; } }
@media (max-width: 820px) {
  body { padding: 20px 14px 48px; }
  .bar { margin-inline: -14px; padding-inline: 14px; }
  .piles { grid-template-columns: minmax(0, 1fr); }
  .card { padding: 14px; }
  canvas { height: 400px; }
}
@media (max-width: 560px) {
  h1 { font-size: 28px; }
  .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); }
  .bar input { flex-basis: 100%; max-width: none; }
  .bar input, .bar select, .names input, .names select { font-size: 16px; }
  .names { grid-template-columns: minmax(0, 1fr); }
  .names select { max-width: none; }
}
"""
    + "[hidden] { display: none !important; }\n"
    + "".join(f".k{i} {{ background: var(--c{i}); }}\n" for i in range(SERIES))
)
