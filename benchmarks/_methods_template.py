"""The page of `methods.py` as a Jinja template, and what its style adds to the run report's."""

STYLE = """\
.matrix td, .matrix thead th { padding-right: 9px; }
.matrix tbody th { white-space: nowrap; padding-right: 10px; }
.matrix td, .matrix th { font-size: 13px; padding-top: 5px; padding-bottom: 5px; }
.matrix thead th.n { white-space: normal; vertical-align: bottom; }
.matrix .rank { color: var(--muted); width: 26px; }
.matrix .spread { margin-left: 3px; font-size: 11px; font-weight: 400; color: var(--muted); }
.matrix .reference th, .matrix .reference td { color: var(--muted); font-style: italic; }
.matrix .low { color: var(--bad); font-weight: 600; }
.matrix tbody tr:hover { background: var(--band); }
.overview td { text-align: center; min-width: 116px; }
.overview td.filled { background: color-mix(in srgb, var(--heat) calc(var(--share) * 100%),
  transparent); }
.overview td.best { color: var(--ink); text-decoration: underline;
  text-underline-offset: 3px; text-decoration-thickness: 2px; }
.overview .few { display: block; font-size: 11px; color: var(--muted); }
.overview thead th { text-align: center; }
.overview thead th:first-child { text-align: left; }
.about td { font-size: 13px; }
.plot { overflow-x: auto; }
.plot svg { min-width: 860px; }
.plot figcaption { position: sticky; left: 0; }
.notes { padding-left: 18px; }
.notes li { max-width: 92ch; margin-bottom: 4px; }
figure.card.plot { margin-top: 16px; }
h2 .part { font-weight: 400; color: var(--muted); }
.contents { margin-top: 14px; font-size: 14px; }
.contents a { margin-right: 14px; color: var(--accent); }
@media (max-width: 560px) { .plot .chart svg text { font-size: 12px; } }
@media print { .plot svg { min-width: 0; } }
"""

PAGE = """\
{% set page_title = "Covey · methods compared" %}
{% include "head" +%}
<body>
<header>
  <p class="brand">Covey<span>benchmark</span></p>
  <div class="title"><h1>Methods compared</h1></div>
  <p class="subtitle">Every recipe on the same images, encoder, rounds and local steps</p>
  <dl class="facts">
    {% for name, value in facts %}
    <div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
    {% endfor %}
  </dl>
  <p class="contents">
    {% for group in groups %}{% set g = loop.index %}
    {% for table in group.tables %}
    <a href="#t{{ g }}-{{ loop.index }}">{{ group.title }}, {{ table.partition }}</a>
    {% endfor %}{% endfor %}
    <a href="#recipes">the recipes</a>
  </p>
</header>
<main>
<section>
  <h2>How to read this</h2>
  <div class="card">
  <ul class="notes">
    <li>The scale is small, and whatever is not equal for all is the recipe's own default: the
      figures say how methods compare here, and are not comparable with published tables.</li>
    <li>All recipes have equal rounds, local epochs, batch size and encoder. The stages of a recipe
      share its rounds in the proportion of the recipe's own. One with an encoder of its own
      (pixels, covey-exact) keeps it. Where a round is one step on all sites' images (covey-sync),
      there are as many steps as a site takes in the other recipes, on as many images.</li>
    <li><b>NMI, ACC, ARI</b>: of the method's own final clusters over all images of all
      sites, as the federation computes them. <b>Pooled</b>: k-means with 10 restarts on the same
      embeddings in one place. <b>kNN, Linear</b>: on the frozen encoder, fitted on all images of
      the run, scored on held-out ones.</li>
    <li><b>std</b> is the collapse monitor: the mean per-dimension standard deviation of unit-length
      embeddings times √d, about 1 when healthy; red below {{ collapsed }}.</li>
    <li><b>Sent</b>: all bytes of the run, down and up, over all sites. <b>Training</b>: local
      training seconds, summed over the sites, one thread each; they wander with what else the
      machine does. <b>Steps</b>: optimiser steps of a site in the whole run.</li>
    <li>Mean ± standard deviation over the seeds of the <b>Seeds</b> column. The best of each score
      is bold, among all but the references in italics: <i>centralised</i> (the ceiling) is
      SimCLR with all images at one site, for as many epochs and therefore more steps;
      <i>centralised-covey</i> is the same by <i>covey</i>,
      <i>centralised-covey-projection</i> by <i>covey</i> without start and landmarks,
      <i>centralised-spectral</i> by its objective with plain k-means;
      <i>standalone</i> (the floor) is SimCLR at one site alone, another one for each seed, judged
      on everybody's images, with pooled k-means.</li>
    <li>Machine: {{ machine }}.</li>
    <li>Rows: <code>methods.csv</code>, at commit
      {{ commits | join(", ") }} ("-dirty": with changes that were not committed).</li>
  </ul>
  </div>
</section>

{% for group in groups %}
{% set g = loop.index %}
<section>
  <h2>{{ group.title }} <span class="part">NMI at a glance</span></h2>
  <p class="lead">{{ group.scale }}. Means over {{ group.seeds }}
    {{- " seeds" if group.seeds != 1 else " seed" }}, shaded by rank.</p>
  <div class="card scroll">
  <table class="matrix overview">
    <thead><tr><th>Recipe</th>
      {% for name in group.overview.partitions %}<th>{{ name }}</th>{% endfor %}
      <th>mean</th></tr></thead>
    <tbody>
    {% for line in group.overview.lines %}
    <tr{% if line.reference %} class="reference"{% endif %}><th scope="row">{{ line.name }}</th>
      {% for cell in line.cells %}
      {% if cell is none %}
      <td>–</td>
      {% else %}
      <td class="filled{{ ' best' if cell.best }}" style="--share: {{ cell.share }}">
        {{- cell.text }}{% if cell.few %}<span class="few">{{ cell.few }}</span>{% endif %}</td>
      {% endif %}
      {% endfor %}
      <td>{{ line.mean }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  <div class="card command"><h3>The command</h3><pre>
    {%- for part in group.command %}<span>{{ part }}</span> {% endfor -%}
    </pre></div>
</section>
{% for table in group.tables %}
<section id="t{{ g }}-{{ loop.index }}">
  <h2>{{ group.title }} <span class="part">{{ table.partition }}</span></h2>
  <div class="card scroll">
  <table class="matrix">
    <thead><tr><th></th><th>Recipe</th>
      {% for key, name in scores %}<th class="n">{{ name }}</th>{% endfor %}
      <th class="n">std</th><th class="n">Sent</th><th class="n">Training</th>
      <th class="n">Steps</th><th class="n">Seeds</th></tr></thead>
    <tbody>
    {% for line in table.lines %}
    <tr{% if line.reference %} class="reference" title="{{ line.reference }}"{% endif %}>
      <td class="rank">{{ line.rank }}</td><th scope="row">{{ line.name }}</th>
      {% for score in line.scores %}
      <td class="n{{ ' best' if score.best }}">{{ score.text }}
        {%- if score.spread %}<span class="spread">{{ score.spread }}</span>{% endif %}</td>
      {% endfor %}
      <td class="n{{ ' low' if line.collapsed }}">{{ line.std }}</td>
      <td class="n">{{ line.sent }}</td><td class="n">{{ line.seconds }}</td>
      <td class="n">{{ line.steps }}</td><td class="n">{{ line.seeds }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  {% for plot in table.plots %}
  <figure class="card plot">
    <figcaption><h3>{{ plot.title }}</h3>
      <p>Up and to the left is better. Blue: no other entry is as good for less. Bars: standard
        deviation over the seeds. Dashed: the references.</p></figcaption>
    <div class="chart">{{ plot.svg }}</div>
  </figure>
  {% endfor %}
</section>
{% endfor %}
{% endfor %}

<section id="recipes">
  <h2>The recipes</h2>
  <div class="card scroll">
  <table class="matrix about">
    <thead><tr><th>Recipe</th><th>Method</th><th>Family</th><th>Shared</th><th>Source</th></tr></thead>
    <tbody>
    {% for one in about %}
    <tr><th scope="row">{{ one.name }}</th><td>{{ one.title }}</td><td>{{ one.family }}</td>
      <td>{{ one.shared }}</td><td>{{ one.source }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
</section>
</main>
<footer><p>Made by benchmarks/methods.py from methods.csv. It loads nothing and runs no
  script.</p></footer>
</body>
</html>
"""
