// From where to where the stream has texts as they are stored, since one that the server cannot turn into our encoding must not end the
// stream for ever. No reader of our encoding can have made a key of it: the server refuses it to them, too. Which one it is the server does
// not say; so its transaction comes once more without being turned into our encoding, and what is beyond ASCII counts as not sent, until
// the server itself has it for acknowledged. Outlives connections. Pure.
#pragma once

#include <optional>

#include "daemon/sources/postgres/lsn.h"

namespace evictd {

class AsStored {
 public:
  bool is_on() const { return until_.has_value(); }
  // A transaction comes in, whose commit record begins there.
  void begins(Lsn record) { record_ = record; }
  Lsn record() const { return record_; }

  // Such a text lies in the transaction in hand, or else somewhere before the end of the WAL as the next stream will find it.
  void unreadable(bool in_transaction) { until_ = in_transaction ? record_ : Lsn{}; }
  // The stream begins (again); the server's WAL ends at `wal_end`.
  void streaming(Lsn wal_end) {
    if (until_ && (*until_ == Lsn{} || *until_ > wal_end)) until_ = wal_end;
  }
  // By what the server itself has of our acknowledgements: one that it never read would bring the text once more. -> whether the text is
  // behind the stream, once: it begins again in our encoding.
  bool is_behind(Lsn confirmed) {
    if (!until_ || confirmed <= *until_) return false;
    until_.reset();
    return true;
  }

 private:
  std::optional<Lsn> until_;
  Lsn record_;
};

}  // namespace evictd
