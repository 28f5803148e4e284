"""The gallery's page, as a Jinja template. Its policy forbids whatever is not in the page: nothing
is loaded, and no script runs but the one whose digest it names."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src '{{ script_digest }}'; \
connect-src {{ "'self'" if save else "'none'" }}; base-uri 'none'; form-action 'none'">
<title>Clusters · {{ title }}</title>
<style>
{{ style }}
</style>
</head>
<body class="{{ 'tiny' if tiny }}">
<header>
  <p class="brand">Covey<span>clusters of the pictures here</span></p>
  <h1>{{ title }}</h1>
  <dl class="facts">
    {% for name, value in facts %}
    <div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
    {% endfor %}
  </dl>
</header>
<main>
<div class="bar">
  <input type="search" id="find" placeholder="Find a cluster" aria-label="Find a cluster">
  <select id="order" aria-label="Order of the clusters">
    <option value="size">largest first</option>
    <option value="doubt">most doubtful first</option>
    <option value="number">by number</option>
  </select>
  <span class="state" id="state" role="status"></span>
  <button class="main" id="save" disabled>Save names</button>
  <p class="told" id="told" role="status" hidden></p>
</div>
{% if points %}
<section class="card map" aria-label="Map">
  <header><h2>Map</h2>
    <p>{{ points }} pictures{{ " of " ~ images if sampled }}: those that the model finds alike lie
      together. The frame is the cluster's colour.</p>
    <div class="zoom"><button id="nearer" aria-label="Zoom in">+</button>
      <button id="farther" aria-label="Zoom out">−</button>
      <button id="whole" aria-label="Show all">all</button></div></header>
  <div class="stage"><canvas id="map" tabindex="0" role="img"
    aria-label="Pictures laid out by likeness"></canvas><div class="tip" id="tip"></div></div>
</section>
{% endif %}
<section class="piles" id="piles" aria-label="Clusters">
{% for pile in piles %}
<article class="card pile" id="cluster-{{ pile.number }}" data-cluster="{{ pile.number }}"
  data-size="{{ pile.size }}" data-sure="{{ pile.sure }}">
  <header><span class="dot k{{ pile.number % 10 }}"></span>
    <h3>{{ pile.shown }}</h3><span class="number"{{ " hidden" if not pile.named }}>cluster
      {{ pile.number }}</span></header>
  <p class="sizes"><b>{{ pile.here }}</b> here{% if pile.federation %} ·
    {{ pile.federation }} in the federation{% endif %} · confidence {{ pile.confidence }}</p>
  <div class="meter"><span class="k{{ pile.number % 10 }}" style="width: {{ pile.share }}%"></span>
  </div>
  {% for strip in pile.strips %}
  <div class="strip"><p><b>{{ strip.title }}</b> {{ strip.about }}</p>
    <div class="tiles">
      {% for one in strip.pictures %}
      <button data-file="{{ one.name }}" data-about="{{ one.about }}"><img src="{{ one.address }}"
        alt="{{ one.name }}" title="{{ one.name }}" loading="lazy" decoding="async"></button>
      {% endfor %}
    </div></div>
  {% endfor %}
  {% if not pile.strips %}<p class="none">No pictures of it are shown: there are very many
    clusters.</p>{% endif %}
  <div class="names">
    <input type="text" class="name" maxlength="200" value="{{ pile.name }}"
      placeholder="Name this cluster" aria-label="Name of cluster {{ pile.number }}"
      autocomplete="off">
    <select class="same" aria-label="Cluster {{ pile.number }} is the same as">
      <option value="">a cluster of its own</option></select>
    <label class="several"><input type="checkbox" class="split"
      {{- " checked" if pile.split }}> holds several things that should be split</label>
  </div>
</article>
{% endfor %}
</section>
{% if empty %}
<section class="card others"><h2>Not here</h2>
  <p class="none">Clusters of the federation that none of the pictures here belongs to:</p>
  <ul>
    {% for one in empty %}
    <li>{{ one.shown }}{% if one.federation %} <span class="number">{{ one.federation }} elsewhere
      </span>{% endif %}</li>
    {% endfor %}
  </ul></section>
{% endif %}
</main>
<dialog id="large"><img alt=""><p class="file"></p><p class="about"></p>
  <form method="dialog"><button>Close</button></form></dialog>
<footer>
  <p>This page stays where it is: it has all pictures in it, loads nothing and sends
    nothing{{ ", but the names to the command that shows it" if save }}. Sizes in the federation are
    counts over all sites; no picture, file name or embedding of another site is in it.
    <noscript>Names and the map need JavaScript.</noscript></p>
</footer>
<script type="application/json" id="data">{{ data }}</script>
<script>{{ script }}</script>
</body>
</html>
"""
