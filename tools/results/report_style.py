"""The style sheet of a report, with colours for a light and a dark page."""

from tools.results import curves

_CSS = """
:root { color-scheme: light dark; --ink: #33312e; --quiet: #77736c; --rule: #e4e0d9;
  --paper: #fdfcfa; --shade: #f5f2ed; /*light*/ }
@media (prefers-color-scheme: dark) { :root { --ink: #dedad3; --quiet: #98938a; --rule: #37342f;
  --paper: #191816; --shade: #22201d; /*dark*/ } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55;
  font: 1.0625rem/1.55 Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype",
  Palatino, Georgia, serif; -webkit-text-size-adjust: 100%; }
main { max-width: 46rem; margin: 0 auto; padding: 4.5rem 1.25rem 6rem; }
h1 { margin: 0; font-size: 2.1rem; font-weight: 400; line-height: 1.15; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
h1 small { display: block; margin-bottom: .35rem; font-size: 1rem; color: var(--quiet);
  letter-spacing: 0; }
h2 { margin: 3.5rem 0 .9rem; font-size: 1.3rem; font-weight: 400; overflow-wrap: anywhere; }
header p { margin: .6rem 0 0; color: var(--quiet); }
header ul { margin: 1.5rem 0 0; padding: 0; list-style: none; }
header li { padding-left: 1.5rem; text-indent: -1.5rem; }
header li i { font-style: normal; color: var(--quiet); }
dl { margin: 0; } dd { margin: 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem 2.75rem; margin-top: 2rem; }
.figures dt { color: var(--quiet); font-size: .9rem; }
.figures dd { font-size: 2rem; line-height: 1.2; font-variant-numeric: lining-nums tabular-nums; }
figure { margin: 2.5rem 0 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text, .key, table, .sample figcaption, .facts, summary { font-family: ui-sans-serif,
  system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
.narrow { display: none; }
.multiples { display: grid; grid-template-columns: repeat(2, 1fr); gap: 1.75rem 2rem;
  margin-top: 2rem; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: 0 0 1rem; padding: 0;
  list-style: none; font-size: .85rem; overflow-wrap: anywhere; }
.key i { display: inline-block; width: 1.5rem; margin-right: .5rem; vertical-align: .25em;
  border-top: 2.5px solid var(--hue); border-radius: 2px; }
.key .train { border-top-width: 1.5px; opacity: .55; }
.key .test { border-top-style: dotted; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; line-height: 1.4; }
th, td { padding: .45rem 1.25rem .45rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--rule); }
th { color: var(--quiet); font-weight: 400; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
.sample { margin-top: 1.5rem; }
.sample figcaption { margin-bottom: .4rem; color: var(--quiet); font-size: .8rem; }
.sample img { max-width: 100%; height: auto; border-radius: 4px; }
pre { margin: 0; padding: 1rem 1.1rem; border-radius: 6px; background: var(--shade);
  font: .8125rem/1.55 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem;
  font-size: .875rem; overflow-wrap: anywhere; }
.facts dt { color: var(--quiet); }
.command, details { margin-top: 1.1rem; }
summary { cursor: pointer; color: var(--quiet); font-size: .875rem; }
details[open] summary { margin-bottom: .6rem; }
@media (max-width: 34rem) {
  main { padding-top: 2.25rem; }
  h1 { font-size: 1.7rem; } .figures dd { font-size: 1.6rem; }
  .multiples { grid-template-columns: 1fr; }
  .wide { display: none; } .narrow { display: block; }
}
"""


def css() -> str:
    """The text of the style sheet."""
    light = "".join(f"--hue{i}: {light};" for i, (light, _) in enumerate(curves.HUES))
    dark = "".join(f"--hue{i}: {dark};" for i, (_, dark) in enumerate(curves.HUES))
    return _CSS.replace("/*light*/", light).replace("/*dark*/", dark)
