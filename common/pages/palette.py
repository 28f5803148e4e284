"""The colours of every page, light and dark.

Series colours are Okabe and Ito's (2008), told apart with every common colour blindness, darkened
on white and lightened on black until a line has a contrast of 3:1.
"""

SERIES = 10  # colours `--c0` to `--c9`

PALETTE = """\
:root {
  --page: #f6f6f4; --card: #ffffff; --ink: #191c20; --muted: #5a626c; --rule: #e2e3e1;
  --band: #f2f3f1; --grid: #e7e8e6; --accent: #0072b2; --heat: #0a6aa8; --heat-ink: #ffffff;
  --good: #00734f; --bad: #b3261e; --bad-tint: #fdecea; --warn: #8a5a00; --warn-tint: #fff5dc;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #c2649b; --c4: #bd8500;
  --c5: #3b9bd6; --c6: #7656a8; --c7: #8a6240; --c8: #727a84; --c9: #98930a; --rest: #c9cdd2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #111316; --card: #1a1d21; --ink: #eceeef; --muted: #a0a8b1; --rule: #2d3238;
    --band: #20242a; --grid: #2b3036; --accent: #58b2ee; --heat: #4aa3df; --heat-ink: #08131b;
    --good: #3fce9f; --bad: #ff8a7d; --bad-tint: #3a1d1b; --warn: #f2c14e; --warn-tint: #332a14;
    --c0: #4fa9e6; --c1: #f2803c; --c2: #2fc596; --c3: #e493c3; --c4: #efb02e;
    --c5: #9bd5fa; --c6: #b59ce6; --c7: #c49f78; --c8: #9aa2ac; --c9: #e4da54; --rest: #49505a;
  }
}
"""
