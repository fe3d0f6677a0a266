[
  inputs: ["{mix,.formatter}.exs", "{bench,config,lib,test}/**/*.{ex,exs}", "bin/*.exs"],
  import_deps: []
]
