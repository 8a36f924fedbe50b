[
  inputs: ["{mix,.formatter}.exs", "{lib,test,bench,examples}/**/*.{ex,exs}"],
  line_length: 110,
  locals_without_parens: [same: 4, better: 4, cannot: 4]
]
