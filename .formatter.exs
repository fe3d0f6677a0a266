[
  inputs: [
    "{mix,.formatter}.exs",
    "{bench,config,demo,lib,test}/**/*.{ex,exs}",
    "bin/*.exs",
    "native/*.exs"
  ],
  import_deps: []
]
