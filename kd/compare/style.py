"""The style sheet of the page: light, dark and printed; colours stay apart for colour-blind readers."""

STYLE = """
:root { color-scheme: light dark;
  --page: #ffffff; --text: #1b1f24; --quiet: #57606a; --rule: #d8dee4; --soft: #f4f6f8;
  --warn: #fff4d6; --warn-rule: #c98a00;
  --teacher: #8250c4; --baseline: #7d8590; --alone0: #2a9d8f; --alone1: #a5548d; --alone2: #b07d00;
  --student0: #0072b2; --student1: #d55e00; --student2: #009e73;
  --term0: #0072b2; --term1: #d55e00; --term2: #009e73; --term3: #a5548d; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171b; --text: #e6e9ec; --quiet: #9aa4ae; --rule: #343b43; --soft: #1d2126;
  --warn: #3a2f10; --warn-rule: #e0a526;
  --teacher: #b391e6; --baseline: #98a1ab; --alone0: #4cc3b4; --alone1: #d48bbf; --alone2: #e0b04c;
  --student0: #4da9e0; --student1: #f08a4b; --student2: #3cc79a;
  --term0: #4da9e0; --term1: #f08a4b; --term2: #3cc79a; --term3: #d48bbf; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
footer { padding: 16px 24px 40px; color: var(--quiet); font-size: 13px; }
header { padding-top: 40px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 8px; max-width: 32em; text-wrap: balance; }
h2 { font-size: 20px; margin: 44px 0 10px; padding-top: 14px; border-top: 1px solid var(--rule); }
h3 { font-size: 14px; font-weight: 600; margin: 20px 0 6px; color: var(--quiet); }
p { margin: 6px 0; } .lead { font-size: 18px; } .quiet { color: var(--quiet); font-size: 14px; }
.warning { background: var(--warn); border-left: 4px solid var(--warn-rule); padding: 8px 12px; border-radius: 4px; }
ul { padding-left: 20px; } ul.quiet li { margin: 2px 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--quiet); font-size: 13px; padding-top: 8px; }
th, td { padding: 6px 12px 6px 0; text-align: left; border-bottom: 1px solid var(--rule); white-space: nowrap; }
thead th { color: var(--quiet); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody th { font-weight: 600; }
.number { text-align: right; }
td.bars { width: 42%; min-width: 160px; padding: 7px 20px 7px 0; } th.bars { min-width: 160px; }
td.bars b { display: block; height: 5px; min-width: 1px; margin: 1px 0; border-radius: 2px; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
.swatch { display: inline-block; width: 14px; height: 14px; margin: 0 6px 0 0; border-radius: 3px; vertical-align: -2px;
  border: 1px solid var(--rule); }
.gained { background: rgb(0,114,178); } .lost { background: rgb(230,159,0); } .still { background: rgb(110,110,110); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 6px 0; }
.legend span > i:not(.swatch) { display: inline-block; width: 20px; margin-right: 6px; vertical-align: 4px; }
svg text { fill: currentColor; font-size: 13px; } svg.chart text { fill: var(--quiet); font-size: 12px; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--rule); stroke-width: 6; stroke-linecap: round; }
svg .stem { stroke: var(--quiet); stroke-dasharray: 2 2; }
.ruler { display: block; width: 100%; max-width: 760px; margin: 14px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 20px 28px; }
.charts figure { margin: 0; } .charts figcaption { font-weight: 600; font-size: 14px; margin-bottom: 4px; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(46%, 200px), 1fr)); gap: 10px; }
.strip figure { margin: 0; } .strip img { display: block; width: 100%; height: auto; border-radius: 3px; }
.strip img.pixels { image-rendering: pixelated; }
.strip figcaption { font-size: 13px; color: var(--quiet); }
details { margin: 6px 0; }
pre { background: var(--soft); padding: 12px; overflow-x: auto; font-size: 13px; line-height: 1.4; }
code { font-size: 13px; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; --page: #fff; --text: #000; --quiet: #444; --rule: #ccc; }
  body { font-size: 12px; } main { max-width: none; padding: 0; }
  article, figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
